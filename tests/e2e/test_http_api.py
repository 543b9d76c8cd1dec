"""An HTTP API behind the whole gateway: decided, recorded, redacted, and honest about what is not known."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.e2e.gateway import Wardgate, eventually, rule, talking
from tests.e2e.test_client import MODES, client

CRM: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "CRM", "version": "1"},
    "servers": [{"url": "https://crm.example/"}],
    "paths": {
        "/customers/{id}": {
            "get": {
                "operationId": "getCustomer",
                "summary": "One customer",
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
                "responses": {
                    "200": {
                        "description": "",
                        "content": {
                            "application/json": {"schema": {"$ref": "#/components/schemas/Customer"}}
                        },
                    }
                },
            }
        },
        "/payments": {
            "post": {
                "operationId": "pay",
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["amount"],
                                "properties": {"amount": {"type": "integer"}, "then": {"type": "string"}},
                            }
                        }
                    },
                },
            }
        },
    },
    "components": {
        "responses": {
            "Customer": {
                "description": "",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Customer"}}},
            }
        },
        "schemas": {
            "Customer": {
                "type": "object",
                "required": ["id", "iban"],
                "properties": {"id": {"type": "string"}, "iban": {"type": "string"}},
            }
        },
    },
}
TOOLS = {"getCustomer": {"risk": "read"}, "pay": {"risk": "irreversible", "effects": ["write", "money"]}}
SMALL_ONLY = (
    'deny contains {"code": "too_much", "message": "At most 100."} if input.call.args.body.amount > 100'
)
NO_IBAN = 'obligation contains {"kind": "redact", "value": {"keys": ["iban"]}}'


class Crm:
    """The API: what it was asked, and answers as bodies ask for them."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append((request.method, request.raw_path, dict(request.headers), body))
        if request.method == "GET":
            number = request.path.rpartition("/")[2]
            if number == "0":
                return web.json_response({"error": "no such customer"}, status=404)
            return web.json_response({"id": number, "iban": "DE02120300000000202051"})
        then = json.loads(body).get("then")
        if then == "hang":
            await asyncio.sleep(30)
        if then == "fail":
            return web.json_response({"error": "database"}, status=500)
        return web.json_response({"paid": True}, status=201)


@pytest.fixture
async def crm() -> AsyncIterator[tuple[Crm, str]]:
    api = Crm()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", api.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    yield api, f"http://127.0.0.1:{port}/v2"
    await runner.cleanup()


@pytest.fixture
def front(tmp_path: Path, crm: tuple[Crm, str]) -> Iterator[Wardgate]:
    (tmp_path / "front").mkdir()
    (tmp_path / "front" / "crm.json").write_text(json.dumps(CRM))
    section = {
        "openapi": "./crm.json", "url": crm[1], "headers": {"Authorization": "Bearer ${CRM_TOKEN}"},
        "tools": TOOLS, "deadline_s": 1.0, "pins": {"added": "accept", "changed": "flag"},
    }  # fmt: skip
    calc = {"python": "tests.upstreams.callables.tools:TOOLS", "tools": {"*": {"risk": "read"}}}
    running = Wardgate(tmp_path / "front", {"crm": section, "calc": calc})
    running.env["CRM_TOKEN"] = "token-of-the-crm"
    running.policy("small.rego", rule("small", SMALL_ONLY, codes=["too_much"]))
    running.policy("iban.rego", rule("iban", NO_IBAN, phase="result"))
    yield running
    running.close()


async def start(front: Wardgate) -> None:
    await asyncio.to_thread(front.start)


async def test_calls_are_decided_recorded_and_redacted(front: Wardgate, crm: tuple[Crm, str]) -> None:
    api, _ = crm
    await start(front)
    async with talking(front, front.key(), "crm") as alice:
        listed = {each["name"]: each for each in (await alice.ask("tools/list", {})).result["tools"]}
        assert list(listed) == ["getCustomer", "pay"]
        assert listed["getCustomer"]["inputSchema"]["required"] == ["id"]

        said = await alice.call("getCustomer", id="a/b?x=1")
        assert not said.refused, said.message
        assert said.result["structuredContent"] == {"id": "b?x=1", "iban": "[redacted]"}
        assert json.loads(said.text) == {"id": "b?x=1", "iban": "[redacted]"}
        assert b"DE0212" not in said.body
        method, path, headers, _ = api.seen[-1]
        assert (method, path) == ("GET", "/v2/customers/a%2Fb%3Fx%3D1")
        assert headers["Authorization"] == "Bearer token-of-the-crm"
        assert front.key() not in str(headers)

        said = await alice.call("pay", body={"amount": 50})
        assert (said.reason, said.text) == (None, '{"paid": true}')
        assert api.seen[-1][3] == b'{"amount":50}'

        before = len(api.seen)
        assert (await alice.call("pay", body={"amount": 500})).reason == "too_much"
        said = await alice.call("pay", body={"amount": 5.5}, note="x")
        assert (said.reason, said.facts["decision"]) == ("invalid_arguments", "deny")
        assert "body/amount" in said.facts["remedy"] and "'note' was unexpected" in said.facts["remedy"]
        assert (await alice.call("getCustomer", id="../payments")).reason == "invalid_arguments"
        assert len(api.seen) == before, "nothing was sent"

        assert (await alice.ask("prompts/list", {})).status == 404, "such upstreams offer tools only"
    denied = await front.recorded(lambda record: record.get("code") == "too_much")
    assert (denied["target"], denied["verdict"], denied["action"]) == ("crm/pay", "deny", "block")
    refused = await front.recorded(lambda record: record["phase"] == "not_sent")
    assert refused["outcome_code"] == "invalid_arguments"
    paid = await front.recorded(lambda record: record["phase"] == "result" and record["target"] == "crm/pay")
    assert paid["status"] == "ok"


async def test_the_official_client_takes_tools_and_structured_answers(front: Wardgate) -> None:
    """It checks structured content against the output schema by itself, after redaction too."""
    await start(front)
    for mode in MODES:
        async with client(front, mode, "/mcp/crm") as session:
            assert [tool.name for tool in (await session.list_tools()).tools] == ["getCustomer", "pay"]
            done = await session.call_tool("getCustomer", {"id": "7"})
            assert not done.is_error and done.structured_content == {"id": "7", "iban": "[redacted]"}
            assert (await session.call_tool("getCustomer", {"id": "0"})).is_error
            assert (await session.call_tool("getCustomer", {"id": ".."})).is_error
        async with client(front, mode, "/mcp/calc") as session:
            done = await session.call_tool("add", {"left": 1})
            assert done.structured_content == {"total": 2, "on": "2026-01-02"}


async def test_a_refusal_of_the_api_is_a_tool_error_the_agent_can_read(front: Wardgate) -> None:
    await start(front)
    async with talking(front, front.key(), "crm") as alice:
        said = await alice.call("getCustomer", id="0")
        assert said.result["isError"] and "dev.wardgate/decision" not in said.result["_meta"]
        assert [block["text"] for block in said.result["content"]] == [
            "HTTP 404 Not Found.", '{"error": "no such customer"}',
        ]  # fmt: skip
    record = await front.recorded(lambda record: record.get("status") == "tool_error")
    assert record["outcome_code"] == "upstream_error"


@pytest.mark.parametrize(("then", "code"), [("hang", "upstream_timeout"), ("fail", "upstream_bad_answer")])
async def test_a_write_whose_outcome_is_not_known_is_in_doubt_and_not_repeated(
    front: Wardgate, crm: tuple[Crm, str], then: str, code: str
) -> None:
    api, _ = crm
    await start(front)
    async with talking(front, front.key(), "crm") as alice:
        said = await alice.call("pay", body={"amount": 1, "then": then})
        assert (said.reason, said.facts["decision"]) == (code, "in_doubt")
        again = await alice.call("pay", body={"amount": 1, "then": then})
        assert again.reason == "in_doubt"
    assert len(api.seen) == 1
    (doubt,) = front.in_doubt()
    assert (doubt["target"], doubt["outcome_code"]) == ("crm/pay", code)


async def test_callables_are_called_like_any_tool(front: Wardgate) -> None:
    key = await front.new_operator()
    await start(front)
    async with talking(front, front.key(), "calc") as alice:
        said = await alice.call("add", left=2, right=3)
        assert said.result["structuredContent"]["total"] == 5
        assert (await alice.call("add", left="2")).reason == "invalid_arguments"
        said = await alice.call("fails")
        assert said.result["isError"] and said.text == "The tool failed." and b"hunter2" not in said.body
    status, body = await front.admin("/v1/upstreams", key)
    assert status == 200
    assert {each["name"]: each["transport"] for each in json.loads(body)["items"]} == {
        "crm": "openapi",
        "calc": "python",
    }


async def test_a_reload_reads_the_document_again(front: Wardgate) -> None:
    key = await front.new_operator()
    await start(front)
    document = front.folder / "crm.json"

    async def tools() -> list[str]:
        return [each["name"] for each in (await alice.ask("tools/list", {})).result["tools"]]

    async with talking(front, front.key(), "crm") as alice:
        document.write_text(json.dumps(CRM).replace("getCustomer", "readCustomer"))
        assert (await front.admin("/v1/reload", key, "POST"))[0] == 200
        await eventually(lambda: "renamed" in front.log(), 10)
        assert (
            await front.cli("tools", "accept", "--all")
        ).returncode == 0  # a renamed tool waits for a person
        async with asyncio.timeout(10):
            while await tools() != ["readCustomer", "pay"]:
                await asyncio.sleep(0.05)

        document.write_text('{"swagger": "2.0"}')
        assert (await front.admin("/v1/reload", key, "POST"))[0] == 200
        await eventually(lambda: "Swagger" in front.log(), 10)
        _, state = await front.readiness()
        assert state["parts"]["upstream:crm"] == "degraded"
        assert not (await alice.call("readCustomer", id="1")).refused, "the last good one is in force"

        front.config["upstreams"]["crm"]["deadline_s"] = (
            2.0  # a new upstream, which has no last good document
        )
        front.write_config()
        await eventually(lambda: "not reloaded" in front.log(), 10)
        assert not (await alice.call("readCustomer", id="1")).refused


async def test_a_gateway_does_not_start_with_a_document_it_cannot_use(front: Wardgate) -> None:
    (front.folder / "crm.json").write_text('{"swagger": "2.0"}')
    code, said = await asyncio.to_thread(front.refuses_to_start)
    assert code != 0 and "upstreams.crm: " in said and "convert it to 3.0 or 3.1" in said
    done = await front.cli("doctor")
    assert done.returncode == 2 and "convert it to 3.0 or 3.1" in done.stdout


async def test_doctor_names_what_of_a_document_is_left_out(front: Wardgate) -> None:
    changed = json.loads(json.dumps(CRM))
    changed["paths"]["/odd"] = {"post": {"requestBody": {"$ref": "https://far.example/b.yaml"}}}
    (front.folder / "crm.json").write_text(json.dumps(changed))
    done = await front.cli("doctor")
    assert "'crm' can be reached and its document has 2 tool(s)" in done.stdout
    assert "POST '/odd' is left out: it needs the reference 'https://far.example/b.yaml'" in done.stdout


async def test_doctor_says_why_an_api_cannot_be_reached(front: Wardgate, crm: tuple[Crm, str]) -> None:
    for url, said in (
        (crm[1].replace("127.0.0.1", "2130706433"), "upstreams.crm.allow_private: true"),
        ("http://127.0.0.1:9/", "Start it and try it by hand"),
    ):
        front.config["upstreams"]["crm"]["url"] = url
        front.write_config()
        done = await front.cli("doctor")
        assert done.returncode == 2 and "'crm' cannot be used" in done.stdout and said in done.stdout
    assert crm[0].seen == []
