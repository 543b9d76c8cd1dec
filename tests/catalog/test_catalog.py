"""The catalog's promises: nothing unknown is harmless, nothing ambiguous is offered, no list is half new."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from gateway.catalog.catalog import ToolCatalog
from gateway.config_upstream import ToolConfig, UpstreamConfig
from gateway.errors import InDoubt, Refused

ADD = {"name": "add", "description": "Adds.", "inputSchema": {"type": "object"}}


class Upstream:
    """What an upstream would list, changed by the test at will."""

    def __init__(self, **lists: Sequence[Mapping[str, Any]] | None) -> None:
        self.lists: dict[str, Any] = {"tool": [], "prompt": None, "resource": None, "template": None, **lists}
        self.down = False

    async def __call__(self, upstream: str, kind: str) -> Any:
        if self.down:
            raise InDoubt("upstream_lost", "gone")
        return self.lists[kind]


def config(**more: Any) -> UpstreamConfig:
    return UpstreamConfig(url="http://127.0.0.1:1/mcp", **more)


async def catalog_of(upstream: Upstream, **more: Any) -> ToolCatalog:
    catalog = ToolCatalog({"up": config(**more)})
    assert await catalog.refresh("up", upstream)
    return catalog


# -------------------------------------------------------------------------------------- manifests


async def test_a_tool_nobody_described_is_irreversible_and_writes() -> None:
    catalog = await catalog_of(Upstream(tool=[ADD]))
    tool = catalog.resolve("tool", "up", "add")
    assert (tool.manifest.risk, tool.manifest.effects, tool.manifest.source) == (
        "irreversible", ("write",), "default",
    )  # fmt: skip
    assert tool.writes and tool.target == "up/add"


@pytest.mark.parametrize(
    ("annotations", "trusted", "risk", "source"),
    [
        ({"readOnlyHint": True}, False, "irreversible", "default"),
        ({"readOnlyHint": True}, True, "read", "hint"),
        ({"readOnlyHint": "yes"}, True, "irreversible", "default"),
        ({"readOnlyHint": False, "destructiveHint": False}, True, "irreversible", "default"),
        ("readOnlyHint", True, "irreversible", "default"),
        (None, True, "irreversible", "default"),
    ],
)
async def test_a_hint_counts_only_where_the_operator_trusts_the_upstream(
    annotations: Any, trusted: bool, risk: str, source: str
) -> None:
    catalog = await catalog_of(Upstream(tool=[{**ADD, "annotations": annotations}]), trust_hints=trusted)
    manifest = catalog.resolve("tool", "up", "add").manifest
    assert (manifest.risk, manifest.source) == (risk, source)


async def test_the_operators_word_beats_a_trusted_hint() -> None:
    catalog = await catalog_of(
        Upstream(tool=[{**ADD, "annotations": {"readOnlyHint": True}}]),
        trust_hints=True,
        tools={"add": ToolConfig(risk="reversible")},
    )
    manifest = catalog.resolve("tool", "up", "add").manifest
    assert (manifest.risk, manifest.effects, manifest.source) == ("reversible", ("write",), "operator")


async def test_a_description_without_a_risk_keeps_the_tool_irreversible() -> None:
    catalog = await catalog_of(Upstream(tool=[ADD]), tools={"add": ToolConfig(domain="maths")})
    manifest = catalog.resolve("tool", "up", "add").manifest
    assert (manifest.risk, manifest.domain, manifest.source) == ("irreversible", "maths", "default")


async def test_an_exact_name_beats_the_longest_glob_and_that_every_shorter_one() -> None:
    catalog = await catalog_of(
        Upstream(tool=[{"name": name} for name in ("get", "get_mail", "get_mail_raw", "send", "a.c", "abc")]),
        tools={
            "*": ToolConfig(risk="irreversible"),
            "get*": ToolConfig(risk="compensable"),
            "get_mail*": ToolConfig(risk="reversible"),
            "get_mail_raw": ToolConfig(risk="read"),
            "a.c*": ToolConfig(risk="read"),
        },
    )
    risks = {tool.name: tool.manifest.risk for tool in catalog.tools("tool")}
    assert risks == {
        "get": "compensable", "get_mail": "reversible", "get_mail_raw": "read",
        "send": "irreversible", "a.c": "read", "abc": "irreversible",
    }  # fmt: skip


async def test_everything_the_operator_says_is_in_the_manifest() -> None:
    said = ToolConfig(
        risk="compensable", effects=("write", "money"), domain="bank", idempotent=True, effect_key="pay:{id}",
        cost_micro_usd=7, deadline_s=3, integrity="trusted", confidentiality=2, sensitive=("/iban",),
        polling=True, interruptible=True, extra={"undo": "refund"},
    )  # fmt: skip
    manifest = (
        (await catalog_of(Upstream(tool=[ADD]), tools={"add": said})).resolve("tool", "up", "add").manifest
    )
    for field in ToolConfig.model_fields:
        assert getattr(manifest, field) == getattr(said, field), field


async def test_the_deadline_is_the_tools_own_or_the_upstreams() -> None:
    catalog = await catalog_of(
        Upstream(tool=[ADD, {"name": "slow"}]), deadline_s=5, tools={"slow": ToolConfig(deadline_s=50)}
    )
    assert catalog.resolve("tool", "up", "add").manifest.deadline_s == 5
    assert catalog.resolve("tool", "up", "slow").manifest.deadline_s == 50


async def test_prompts_resources_and_completions_are_reads_whatever_the_globs_say() -> None:
    upstream = Upstream(
        prompt=[{"name": "p"}], resource=[{"uri": "a://b"}], template=[{"uriTemplate": "a://{x}"}]
    )
    catalog = await catalog_of(upstream, tools={"*": ToolConfig(risk="irreversible")})
    for kind, name in (("prompt", "p"), ("resource", "a://b"), ("resource", "a://c"), ("completion", "p")):
        tool = catalog.resolve(kind, "up", name)  # type: ignore[arg-type]  # a kind of the table above
        assert (tool.kind, tool.manifest.risk, tool.writes) == (kind, "read", False)


async def test_the_more_lenient_mode_of_gateway_and_upstream_holds() -> None:
    for gateway, upstream, expected in (
        ("enforce", "enforce", "enforce"), ("observe", "enforce", "observe"), ("warn", "observe", "observe"),
    ):  # fmt: skip
        catalog = ToolCatalog({"up": config(mode=upstream)}, mode=gateway)  # type: ignore[arg-type]  # as above
        await catalog.refresh("up", Upstream(tool=[ADD]))
        assert catalog.resolve("tool", "up", "add").mode == expected


# ------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    "name",
    [
        "a\nb", "a\r", "\x00", "a\x1b[31m", "pay\u200bment", "pay\u202ement", "\ufeffpay", "a\u2066b",
        "a\u2028b",        "tag\U000e0061", "\ud800", " pay", "pay ", "", None, 7, ["x"], "x" * 257,
    ],
)  # fmt: skip
async def test_a_name_that_hides_something_is_refused_and_reported_never_repaired(name: Any) -> None:
    catalog = await catalog_of(Upstream(tool=[{"name": name}, ADD]))
    assert [tool.name for tool in catalog.tools("tool")] == ["add"]
    (problem,) = catalog.problems()
    assert problem.upstream == "up" and "refused" in problem.detail
    assert problem.subject.isascii() and problem.subject.isprintable()
    if isinstance(name, str) and name.strip().isascii():
        with pytest.raises(Refused):
            catalog.resolve("tool", "up", name.strip())


async def test_of_two_tools_with_one_name_none_is_offered() -> None:
    catalog = await catalog_of(Upstream(tool=[ADD, {"name": "x"}, {**ADD, "description": "Other."}]))
    assert [tool.name for tool in catalog.tools("tool")] == ["x"]
    assert [problem.detail for problem in catalog.problems()] == ["tool is listed more than once; refused"]


async def test_names_that_only_look_alike_stay_apart() -> None:
    names = ["pay", "Pay", "раy", "pay/x", "pa%79", "ｐay"]
    catalog = await catalog_of(Upstream(tool=[{"name": name} for name in names]))
    assert [catalog.resolve("tool", "up", name).name for name in names] == names


async def test_a_monstrous_definition_is_refused() -> None:
    catalog = await catalog_of(Upstream(tool=[{"name": "big", "description": "x" * 300_000}]))
    assert not catalog.tools("tool") and "more than" in catalog.problems()[0].detail


async def test_a_described_tool_that_is_not_there_is_reported() -> None:
    catalog = await catalog_of(
        Upstream(tool=[ADD]), tools={"ad": ToolConfig(risk="read"), "x*": ToolConfig()}
    )
    assert [problem.subject for problem in catalog.problems()] == ["'ad'"]


# ---------------------------------------------------------------------------------------- resolve


async def test_what_is_not_there_is_refused_with_the_right_word() -> None:
    catalog = await catalog_of(Upstream(tool=[ADD], prompt=[{"name": "p"}]))
    for kind, upstream, name, code in (
        ("tool", "nobody", "add", "unknown_upstream"),
        ("tool", "up", "sub", "unknown_tool"),
        ("prompt", "up", "add", "unknown_tool"),
        ("resource", "up", "a://b", "unknown_tool"),  # this upstream serves none
        ("completion", "up", "add", "unknown_tool"),
    ):
        with pytest.raises(Refused) as caught:
            catalog.resolve(kind, upstream, name)  # type: ignore[arg-type]  # a kind of the table above
        assert caught.value.code == code


async def test_an_unlisted_resource_takes_the_definition_of_its_template() -> None:
    templates = [{"uriTemplate": "a://item/{id}", "name": "item"}, {"uriTemplate": "file:///{+path}"}]
    catalog = await catalog_of(Upstream(resource=[{"uri": "a://static"}], template=templates))
    by_template = catalog.resolve("resource", "up", "a://item/7")
    assert b'"item"' in by_template.definition_json and by_template.target == "up/a://item/7"
    assert b"+path" in catalog.resolve("resource", "up", "file:///a/b/c").definition_json
    assert catalog.resolve("resource", "up", "a://item/7/other").definition_json == b""
    assert [tool.name for tool in catalog.tools("resource")] == [
        "a://static",
        "a://item/{id}",
        "file:///{+path}",
    ]
    for uri in ("a://item/\n", "a://\u202e", "a://" + "x" * 3000):
        with pytest.raises(Refused):
            catalog.resolve("resource", "up", uri)


async def test_a_hostile_template_costs_no_more_than_its_length() -> None:
    catalog = await catalog_of(Upstream(template=[{"uriTemplate": "a://" + "{+x}a" * 200}]))
    before = time.perf_counter()
    catalog.resolve("resource", "up", "a://" + "a" * 2000 + "b")
    assert time.perf_counter() - before < 0.5


async def test_resolving_costs_the_same_among_10_000_tools() -> None:
    small = await catalog_of(Upstream(tool=[{"name": f"t{n}"} for n in range(10)]))
    large = await catalog_of(Upstream(tool=[{"name": f"t{n}"} for n in range(10_000)]))

    def cost(catalog: ToolCatalog) -> float:
        best = 1.0
        for _ in range(20):
            before = time.perf_counter()
            for _ in range(1000):
                catalog.resolve("tool", "up", "t7")
            best = min(best, time.perf_counter() - before)
        return best

    assert cost(large) < 2 * cost(small)


# ---------------------------------------------------------------------------------------- refresh


async def test_the_revision_changes_with_what_can_be_called_and_with_nothing_else() -> None:
    upstream = Upstream(tool=[ADD])
    catalog = await catalog_of(upstream)
    first, tools = catalog.revision, catalog.tools("tool")
    await catalog.refresh("up", upstream)
    assert catalog.revision == first and catalog.tools("tool") is tools
    upstream.lists["tool"] = [{**ADD, "description": "Adds, and mails the sum to me."}]
    await catalog.refresh("up", upstream)
    assert catalog.revision != first
    other = await catalog_of(Upstream(tool=[ADD]), tools={"add": ToolConfig(risk="read")})
    assert other.revision != first, "a manifest is part of what policy decided on"


@pytest.mark.parametrize("field", ["title", "description", "inputSchema", "outputSchema", "annotations"])
async def test_the_schema_hash_shows_any_change_an_agent_could_read(field: str) -> None:
    before = (await catalog_of(Upstream(tool=[ADD]))).resolve("tool", "up", "add")
    after = (await catalog_of(Upstream(tool=[{**ADD, field: {"x": 1}}]))).resolve("tool", "up", "add")
    reordered = (await catalog_of(Upstream(tool=[dict(reversed(ADD.items()))]))).resolve("tool", "up", "add")
    assert before.schema_hash == reordered.schema_hash != after.schema_hash
    assert len(before.schema_hash) == 64


async def test_a_failed_refresh_keeps_the_last_good_list_and_says_so() -> None:
    upstream = Upstream(tool=[ADD])
    catalog = await catalog_of(upstream)
    revision = catalog.revision
    upstream.down = True
    assert not await catalog.refresh("up", upstream)
    assert catalog.resolve("tool", "up", "add") and catalog.revision == revision
    assert catalog.stale == ("up",)
    assert "last good list is kept" in catalog.problems()[0].detail
    upstream.down = False
    assert await catalog.refresh("up", upstream)
    assert not catalog.stale and not catalog.problems()


async def test_an_upstream_that_is_down_at_start_takes_nothing_from_the_others() -> None:
    catalog = ToolCatalog({"dead": config(), "live": config()})
    dead = Upstream()
    dead.down = True
    assert not await catalog.refresh("dead", dead)
    assert await catalog.refresh("live", Upstream(tool=[ADD]))
    assert [tool.target for tool in catalog.tools("tool")] == ["live/add"]
    with pytest.raises(Refused) as caught:
        catalog.resolve("tool", "dead", "add")
    assert caught.value.code == "unknown_tool"
    assert "absent" in catalog.problems()[0].detail


async def test_a_list_half_way_through_its_refresh_is_never_seen() -> None:
    upstream = Upstream(tool=[ADD], prompt=[{"name": "old"}])
    catalog = await catalog_of(upstream)
    proceed = asyncio.Event()

    async def slow(name: str, kind: str) -> Any:
        if kind == "prompt":
            await proceed.wait()
        return {"tool": [{"name": "new"}], "prompt": [{"name": "new"}]}.get(kind)

    task = asyncio.create_task(catalog.refresh("up", slow))  # type: ignore[arg-type]  # a closed set of kinds
    await asyncio.sleep(0)
    assert catalog.resolve("tool", "up", "add") and catalog.resolve("prompt", "up", "old")
    proceed.set()
    await task
    assert catalog.resolve("tool", "up", "new") and catalog.resolve("prompt", "up", "new")
    with pytest.raises(Refused):
        catalog.resolve("prompt", "up", "old")
