"""What an upstream lists may not be what a verifier needs; operators are told, and calls are made."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.catalog.catalog import ToolCatalog
from gateway.config_upstream import UpstreamConfig

VERIFY = {"tool": "get", "match": {"/a": 1}}


async def problems(*definitions: dict[str, Any], **more: Any) -> list[str]:
    tools = {"put": {"risk": "reversible", "verify": VERIFY}, **more}
    config = UpstreamConfig.model_validate(
        {"url": "https://up.example/mcp", "trust_hints": True, "tools": tools}
    )
    catalog = ToolCatalog({"up": config})

    async def fetch(upstream: str, kind: str) -> Any:
        return list(definitions) if kind == "tool" else None

    assert await catalog.refresh("up", fetch)
    return [f"{each.subject}: {each.detail}" for each in catalog.problems()]


PUT = {"name": "put"}


@pytest.mark.parametrize(
    ("definitions", "said"),
    [
        ([PUT], "'put': its calls stay unverified: 'get' is not listed by the upstream"),
        ([PUT, {"name": "get"}], "'put': its calls stay unverified: 'get' is irreversible, not a read"),
    ],
)
async def test_a_verifier_that_is_no_read_of_the_upstream_is_a_problem(definitions: Any, said: str) -> None:
    assert said in await problems(*definitions)


async def test_one_that_is_hinted_or_described_as_a_read_is_none() -> None:
    assert await problems(PUT, {"name": "get", "annotations": {"readOnlyHint": True}}) == []
    assert await problems(PUT, {"name": "get"}, get={"risk": "read"}) == []


async def test_an_output_schema_that_cannot_be_used_is_a_problem_and_the_tool_is_offered() -> None:
    remote = {"name": "get", "outputSchema": {"$ref": "https://evil.example/x"}}
    (said,) = await problems(PUT, remote, get={"risk": "read"})
    assert said.startswith("'get': its outputSchema cannot be used, so no result fits it: ")
    assert "outside itself" in said
