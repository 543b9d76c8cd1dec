"""Python callables: typed by their signatures, bounded, and silent about what goes wrong inside them."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import jsonschema
import pytest

from gateway.config_upstream import UpstreamConfig
from gateway.errors import ConfigError
from gateway.upstreams import python
from tests.talk import Talk
from tests.upstreams.callables import tools

MODULE = "tests.upstreams.callables.tools"


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    tools.release.clear()
    tools.ran.clear()
    yield
    tools.release.set()


@pytest.fixture
def up(registry: Any) -> Any:
    return registry(up=UpstreamConfig(python=f"{MODULE}:TOOLS"))


def result(outcome: Any) -> Any:
    return json.loads(outcome.result_json)


async def test_tools_are_listed_with_the_types_of_their_signatures(up: Any) -> None:
    listed = {each["name"]: each for each in await up.definitions("up", "tool")}
    assert list(listed)[:3] == ["add", "greet", "move"]
    add = listed["add"]
    assert add["description"] == "Add two numbers."
    assert add["inputSchema"]["required"] == ["left"]
    assert add["inputSchema"]["additionalProperties"] is False
    assert add["inputSchema"]["properties"]["right"]["description"] == "Not below zero."
    assert add["outputSchema"]["properties"]["total"] == {"title": "Total", "type": "integer"}
    assert "outputSchema" not in listed["many"] and "outputSchema" not in listed["greet"]
    for each in listed.values():
        jsonschema.Draft202012Validator.check_schema(each["inputSchema"])
    assert await up.definitions("up", "prompt") is None
    assert up.status()[0].transport == "python" and up.status()[0].connected


@pytest.mark.parametrize(
    ("name", "args", "text", "structured"),
    [
        ("add", {"left": 2, "right": 3}, None, {"total": 5, "on": "2026-01-02"}),
        ("add", {"left": -2}, None, {"total": -1, "on": "2026-01-02"}),
        ("greet", {"name": "Ada"}, "Hi Ada", None),
        ("greet", {"name": "Ada", "style": "long"}, "Hello, Ada.", None),
        ("move", {"point": {"x": 1, "y": 2}, "schema": "s", "copy": True}, None, {"x": 2, "y": 2}),
        ("nothing", {}, "Done.", None),
        ("many", {}, "[1,2]", None),
    ],
)
async def test_what_comes_back_is_text_and_where_promised_an_object(
    up: Any, call: Any, name: str, args: Any, text: str | None, structured: Any
) -> None:
    outcome = await up.execute(call(name=name, args=args), None)
    assert (outcome.status, outcome.code) == ("ok", "")
    said = result(outcome)
    assert said.get("structuredContent") == structured
    (content,) = said["content"]
    assert json.loads(content["text"]) == structured if structured else content["text"] == text


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("add", {}, "left: Field required"),
        ("add", {"left": 1, "other": 2}, "other: Extra inputs are not permitted"),
        ("add", {"left": "1"}, "left: Input should be a valid integer"),
        ("add", {"left": True}, "left: Input should be a valid integer"),
        ("add", {"left": 1, "right": -1}, "right: Input should be greater than or equal to 0"),
        ("greet", {"name": "x", "style": "s3cret"}, "style: Input should be 'short' or 'long'"),
        ("move", {"point": {"x": 1}}, "point/y: Field required"),
        ("nothing", {"a": 1}, "a: Extra inputs"),
    ],
)
async def test_arguments_that_do_not_fit_do_not_run_anything(
    up: Any, call: Any, name: str, args: Any, said: str
) -> None:
    outcome = await up.execute(call(name=name, args=args), None)
    assert (outcome.status, outcome.code) == ("not_sent", "invalid_arguments")
    assert said in outcome.remedy and "s3cret" not in outcome.remedy
    assert tools.ran == []


@pytest.mark.parametrize("name", ["fails", "exits", "stops", "times_out"])
async def test_what_goes_wrong_inside_stays_inside(
    up: Any, call: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "wardgate.upstreams"):
        outcome = await up.execute(call(name=name), None)
    assert (outcome.status, outcome.code) == ("tool_error", "upstream_error")
    assert result(outcome) == {"content": [{"type": "text", "text": "The tool failed."}], "isError": True}
    assert f"the tool {name} failed" in caplog.text


async def test_a_tool_may_tell_the_agent_something(up: Any, call: Any) -> None:
    said = result(await up.execute(call(name="refuses"), None))
    assert said["isError"] and said["content"][0]["text"] == "Only on weekdays."


@pytest.mark.parametrize("name", ["waits", "sleeps", "stubborn"])
async def test_a_tool_that_does_not_end_in_time_leaves_the_call_in_doubt(
    up: Any, call: Any, name: str
) -> None:
    began = time.monotonic()
    outcome = await up.execute(call(name=name, deadline_s=0.2), None)
    assert (outcome.status, outcome.code) == ("in_doubt", "upstream_timeout")
    assert time.monotonic() - began < 1


async def test_threads_are_bounded_and_a_call_that_finds_none_was_not_made(
    up: Any, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = [
        asyncio.create_task(up.execute(call(name="waits", deadline_s=5), None)) for _ in range(python.THREADS)
    ]
    while len(tools.ran) < python.THREADS:
        await asyncio.sleep(0.01)
    outcome = await up.execute(call(name="nothing", deadline_s=0.2), None)
    assert (outcome.status, outcome.code) == ("not_sent", "overloaded")
    assert (await up.execute(call(name="greet", args={"name": "x"}), None)).status == "ok", "needs no thread"
    tools.release.set()
    assert {(await each).status for each in held} == {"ok"}
    assert (await up.execute(call(name="nothing"), None)).status == "ok"


async def test_a_name_that_is_not_there_and_another_method_are_errors(up: Any, call: Any) -> None:
    assert (await up.execute(call(name="none"), None)).status == "rpc_error"
    assert (await up.execute(call(name="add", kind="prompt"), None)).status == "rpc_error"


async def test_a_mapping_names_its_tools_and_objects_can_be_called(registry: Any, call: Any) -> None:
    up = registry(up=UpstreamConfig(python=f"{MODULE}:NAMED"))
    assert [each["name"] for each in await up.definitions("up", "tool")] == ["count", "add.up"]
    for expected in ("2", "4"):
        said = result(await up.execute(call(name="count", args={"by": 2}), None))
        assert said["content"][0]["text"] == expected


async def test_one_callable_is_one_tool(registry: Any) -> None:
    up = registry(up=UpstreamConfig(python=f"{MODULE}:add"))
    assert [each["name"] for each in await up.definitions("up", "tool")] == ["add"]


async def test_an_entry_point_is_named_without_a_colon(
    registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def points(group: str, name: str) -> list[EntryPoint]:
        assert group == "wardgate.tools"
        return [EntryPoint(name, f"{MODULE}:add", group)] if name == "calc" else []

    monkeypatch.setattr(python, "entry_points", points)
    up = registry(up=UpstreamConfig(python="calc"))
    assert [each["name"] for each in await up.definitions("up", "tool")] == ["add"]
    with pytest.raises(ConfigError) as caught:
        registry(up=UpstreamConfig(python="other"))
    assert "0 entry points of wardgate.tools are called 'other'" in str(caught.value)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("no.such.module:x", "cannot be loaded: ModuleNotFoundError"),
        (f"{MODULE}:nope", "cannot be loaded: AttributeError"),
        (f"{MODULE}:EMPTY", "names no callable"),
        (f"{MODULE}:NUMBER", "is no callable"),
        (f"{MODULE}:ODD", "is no callable with a plain name"),
        (f"{MODULE}:TWICE", "two tools called 'add'"),
        (f"{MODULE}:untyped", "does not say the type of 'a'"),
        (f"{MODULE}:variable", "takes *args"),
        (f"{MODULE}:forward", "cannot be typed"),
    ],
)
async def test_what_cannot_be_a_tool_refuses_to_start(registry: Any, said: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        registry(up=UpstreamConfig(python=said))
    assert "upstreams.up.python: " in str(caught.value) and reason in str(caught.value)


async def test_closing_ends_coroutines_and_does_not_wait_for_threads(registry: Any, call: Any) -> None:
    up = registry(up=UpstreamConfig(python=f"{MODULE}:TOOLS"))
    under_way = [
        asyncio.create_task(up.execute(call(name=each, deadline_s=20), None)) for each in ("waits", "sleeps")
    ]
    await asyncio.sleep(0.1)
    began = time.monotonic()
    await up.close()
    assert time.monotonic() - began < 1
    assert (await under_way[1]).code == "upstream_lost"
    tools.release.set()
    assert (await under_way[0]).status == "ok"


@pytest.mark.parametrize("name", ["waits", "sleeps"])
async def test_a_call_that_the_client_gives_up_is_in_doubt_at_once(up: Any, call: Any, name: str) -> None:
    client = Talk()
    under_way = asyncio.create_task(up.execute(call(name=name, deadline_s=20), client))
    await asyncio.sleep(0.1)
    began = time.monotonic()
    client.cancel()
    outcome = await under_way
    assert (outcome.status, outcome.code) == ("in_doubt", "cancelled")
    assert time.monotonic() - began < 1
    outcome = await up.execute(call(name=name), Talk(cancelled=True))
    assert (outcome.status, outcome.code) == ("not_sent", "cancelled")
