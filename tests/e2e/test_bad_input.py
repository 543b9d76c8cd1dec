"""Bad input: each kind gets one exact answer and one record, and the upstream hears nothing of it.

One gateway for the whole table: nothing in it may harm the next row.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.gateway import MODERN, Counting, Wardgate, counting, talking


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Wardgate, Counting]]:
    folder: Path = tmp_path_factory.mktemp("bad-input")
    with counting(folder) as server:
        running = Wardgate(folder / "gateway", {"counting": {"url": server.url}})
        running.start()
        yield running, server
        assert server.contacts() == [], "something of this table reached the upstream"
        assert running.stop() == 0
        running.close()


def message(arguments: str) -> bytes:
    """A call of ``pay`` whose arguments are this text, whatever it is."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    frame = {"name": "pay", "arguments": 0, "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": frame})
    return body.replace('"arguments": 0', f'"arguments": {arguments}').encode()


GOOD = message('{"text": "x"}')
CALL = {"MCP-Method": "tools/call", "MCP-Name": "pay", "MCP-Protocol-Version": MODERN}

BODIES = {
    # what is wrong: (body, HTTP status, JSON-RPC code, reason)
    "empty": (b"", 400, -32700, "malformed_json"),
    "no JSON": (b"{nope", 400, -32700, "malformed_json"),
    "cut short": (GOOD[:-5], 400, -32700, "malformed_json"),
    "two values": (GOOD + GOOD, 400, -32700, "malformed_json"),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, 400, -32700, "malformed_json"),
    "not UTF-8": (message('{"text": "x"}').replace(b'"x"', b'"\xff"'), 400, -32700, "malformed_json"),
    "UTF-16": (GOOD.decode().encode("utf-16"), 400, -32700, "malformed_json"),
    "NaN": (message('{"text": NaN}'), 400, -32700, "malformed_json"),
    "Infinity": (message('{"text": -Infinity}'), 400, -32700, "malformed_json"),
    "infinite float": (message('{"text": 1e999}'), 400, -32700, "number_out_of_range"),
    "huge integer": (message('{"text": 18446744073709551616}'), 400, -32700, "number_out_of_range"),
    "lone surrogate": (message('{"text": "\\ud800"}'), 400, -32700, "malformed_json"),
    "duplicate key": (message('{"text": "a", "text": "b"}'), 400, -32700, "duplicate_key"),
    "duplicate key by escape": (message('{"text": "a", "\\u0074ext": "b"}'), 400, -32700, "duplicate_key"),
    "deeply nested": (message("[" * 70 + "]" * 70), 400, -32700, "too_deep"),
    "very deeply nested": (message("[" * 200_000 + "]" * 200_000), 400, -32700, "too_deep"),
    "over 4 MB": (message(json.dumps({"text": "x" * 4_300_000})), 413, -32600, "too_large"),
    "batch": (b"[" + GOOD + b"," + GOOD + b"]", 400, -32600, "batch_refused"),
    "empty batch": (b"[]", 400, -32600, "batch_refused"),
    "no object": (b'"tools/call"', 400, -32600, "invalid_request"),
    "no jsonrpc": (GOOD.replace(b'"jsonrpc": "2.0", ', b""), 400, -32600, "invalid_request"),
    "id of another type": (GOOD.replace(b'"id": 1', b'"id": {}'), 400, -32600, "invalid_request"),
    "other tool in the header": (GOOD.replace(b'"pay"', b'"look"'), 400, -32020, "header_mismatch"),
    "other version": (GOOD.replace(MODERN.encode(), b"2099-01-01"), 400, -32020, "header_mismatch"),
}


@pytest.mark.parametrize("wrong", BODIES)
async def test_a_body_that_can_be_read_two_ways_or_not_at_all_is_refused(house, wrong):
    running, _ = house
    body, status, rpc, reason = BODIES[wrong]
    before = len(running.records())
    async with talking(running, running.key()) as alice:
        said = await alice.post(body, CALL)
        assert (said.status, said.message["error"]["code"], said.reason) == (status, rpc, reason)
        assert said.message["error"]["message"] and said.facts["remedy"]
    record = await running.recorded(lambda record: record["seq"] > before and record.get("code") == reason)
    assert (record["phase"], record["action"], record["agent"]) == ("refused", "block", "alice")


ARGUMENTS = {
    "too many values": (json.dumps({"list": [0] * 30_000}), "args_too_large"),
    "too many bytes": (json.dumps({"text": "x" * 300_000}), "args_too_large"),
    "a list": ("[1]", "invalid_arguments"),
    "a string": ('"x"', "invalid_arguments"),
}


@pytest.mark.parametrize("wrong", ARGUMENTS)
async def test_arguments_policy_cannot_be_asked_about_are_refused_to_the_model(house, wrong):
    running, _ = house
    arguments, reason = ARGUMENTS[wrong]
    before = len(running.records())
    async with talking(running, running.key()) as alice:
        said = await alice.post(message(arguments), CALL)
        assert (said.status, said.refused, said.reason) == (200, True, reason)
    await running.recorded(lambda record: record["seq"] > before and record.get("code") == reason)


async def test_unknown_names_get_the_protocols_own_error_and_a_record(house):
    running, _ = house
    before = len(running.records())
    async with talking(running, running.key()) as alice:
        said = await alice.call("nothing_here")
        assert (said.status, said.message["error"]["code"]) == (200, -32602)
        assert said.message["error"]["message"] == "Unknown tool: nothing_here"
        said = await alice.call("counting__nowhere", upstream="")
        assert said.message["error"]["message"] == "Unknown tool: counting__nowhere"
        said = await alice.call("pay", upstream="elsewhere")
        assert "error" in said.message
    for what in ("'nothing_here'", "'nowhere'", "'elsewhere'"):
        await running.recorded(
            lambda record, what=what: record["seq"] > before and what in record.get("detail", "")
        )


async def test_a_name_that_leads_to_no_upstream_leaves_a_record_too(house):
    """A fault there was: names refused before the catalog was asked were answered and not recorded."""
    running, _ = house
    uri = "note://nobodys"
    async with talking(running, running.key()) as alice:
        assert (await alice.call("nobodys-tool", upstream="")).message["error"]["code"] == -32602
        ask = alice.ask("prompts/get", {"name": "nobodys-prompt"}, name="nobodys-prompt", upstream="")
        assert (await ask).message["error"]["code"] == -32602
        ask = alice.ask("resources/read", {"uri": uri}, name=uri, upstream="")
        assert (await ask).message["error"]["code"] == -32602
    for what in ("tool 'nobodys-tool'", "prompt 'nobodys-prompt'", f"resource '{uri}'"):
        await running.recorded(lambda record, what=what: record.get("detail") == f"no {what}")


@pytest.mark.parametrize(
    "method", ["tools/destroy", "logging/setLevel", "sampling/createMessage", "rpc.exit"]
)
async def test_a_method_nobody_thought_about_is_refused(house, method):
    running, _ = house
    before = len(running.records())
    async with talking(running, running.key()) as alice:
        said = await alice.ask(method, {})
        assert (said.status, said.message["error"]["code"], said.reason) == (404, -32601, "unknown_method")
    await running.recorded(lambda record: record["seq"] > before and record.get("code") == "unknown_method")


def tokens(running: Wardgate) -> dict[str, tuple[str, str]]:
    key = running.key()
    return {
        "none": ("", "no_credential"),
        "empty": ("Bearer ", "bad_credential"),
        "another scheme": (f"Basic {key}", "bad_credential"),
        "no key of ours": ("Bearer sk-live-0123456789", "bad_credential"),
        "truncated": (f"Bearer {key[:-1]}", "bad_credential"),
        "one letter changed": (f"Bearer {key[:-1]}{'a' if key[-1] != 'a' else 'b'}", "bad_credential"),
        "the id alone": (f"Bearer {key.rsplit('_', 1)[0]}_", "bad_credential"),
        "in upper case": (f"Bearer {key.upper()}", "bad_credential"),
        "two keys": (f"Bearer {key} {key}", "bad_credential"),
        "very long": (f"Bearer {key}{'a' * 6000}", "bad_credential"),
    }


async def test_only_a_whole_and_valid_key_opens(house):
    running, _ = house
    for what, (header, reason) in tokens(running).items():
        before = len(running.records())
        async with talking(running, "") as nobody:
            headers = {**CALL, "Authorization": header} if header else CALL
            said = await nobody.post(GOOD, headers)
            assert (said.status, said.reason) == (401, reason), what
            assert said.headers["WWW-Authenticate"].startswith("Bearer"), what
            assert running.key() not in said.body.decode()
        record = await running.recorded(
            lambda record, after=before, reason=reason: record["seq"] > after and record.get("code") == reason
        )
        assert record["phase"] == "refused" and "agent" not in record, what


async def test_a_page_of_another_site_cannot_use_the_gateway(house):
    running, _ = house
    async with talking(running, running.key()) as alice:
        said = await alice.post(GOOD, {**CALL, "Origin": "https://evil.example"})
        assert (said.status, said.reason) == (403, "origin_refused")
        said = await alice.post(GOOD, {**CALL, "Host": "rebound.example"})
        assert (said.status, said.reason) == (421, "origin_refused")
    await running.recorded(lambda record: record.get("code") == "origin_refused")


async def test_a_flood_of_bad_requests_leaves_a_bounded_number_of_records(house):
    """What is refused before it is a call is recorded up to a rate, and counted beyond it."""
    running, _ = house
    before = len(running.records())
    async with talking(running, "") as nobody:
        for _ in range(300):
            assert (await nobody.post(GOOD, CALL)).status == 401
    await running.recorded(lambda record: record["seq"] > before)
    await asyncio.sleep(0.1)
    written = len(running.records()) - before
    assert 1 <= written < 300
    _, metrics = await running.admin("/metrics", "")
    counted = [line for line in metrics.decode().splitlines() if "no_credential" in line]
    assert sum(float(line.rsplit(" ", 1)[1]) for line in counted if "_total" in line) >= 300


async def test_after_all_of_that_a_good_call_would_still_be_served(house):
    running, _ = house
    async with talking(running, running.key()) as alice:
        said = await alice.ask("tools/list", {})
        assert [tool["name"] for tool in said.result["tools"]] == ["look", "note", "pay", "send"]
