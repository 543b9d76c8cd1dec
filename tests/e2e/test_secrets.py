"""What must never be seen again: arguments, results, keys and secrets of the environment.

Canaries are planted everywhere data comes in, calls are made that succeed, are denied, fail and are not
understood, and then everything the gateway has said or kept is searched.
"""

from __future__ import annotations

import asyncio
import base64
import json

from aiohttp import web

from tests.e2e.gateway import Wardgate, eventually, rule, talking
from tests.e2e.test_approvals import Reviewer
from tests.telemetry.scene import collector

ARGUMENT = "canary-argument-7d1e"
RESULT = "canary-result-52b8"
SECRET = "canary-environment-c4f6"

HELD = 'escalate contains {"code": "needs_person", "message": "a person"} if input.tool.name == "pay"'
NO_TEXT = 'deny contains {"code": "no_text", "message": "not today"} if input.call.args.deny'


def spellings(canary: str) -> list[bytes]:
    """The canary itself and as the usual encodings would show it."""
    raw = canary.encode()
    return [raw, base64.b64encode(raw).rstrip(b"=")[:-1], raw.hex().encode()]


def places(running: Wardgate) -> dict[str, bytes]:
    """Every file the gateway wrote: the log, the database with its write-ahead log, stdout."""
    own = {"wardgate.yaml", "storage.key"}
    files = [path for path in running.folder.rglob("*") if path.is_file() and path.name not in own]
    return {str(path.relative_to(running.folder)): path.read_bytes() for path in files}


CALLS = (
    {"echo": RESULT}, {"deny": True}, {"then": "die"}, {"then": "die"}, {"then": "garbage"}, {"then": "hang"},
    {"then": "wrong_id"},
)  # fmt: skip


async def test_canaries_are_found_nowhere(gateway, server):
    headers = {"X-Upstream-Key": "${CANARY_SECRET}"}
    running = gateway({"headers": headers, "deadline_s": 1.0}, telemetry={"log_level": "debug"})
    tools = running.config["upstreams"]["counting"]["tools"]
    running.config["upstreams"]["counting"]["tools"] = {
        name: {**manifest, "sensitive": ["/text"]} for name, manifest in tools.items()
    }
    running.write_config()
    running.env["CANARY_SECRET"] = SECRET
    running.policy("no_text.rego", rule("no_text", NO_TEXT, codes=["no_text"]))
    operator = await running.new_operator()
    running.start()

    said: list[bytes] = []
    async with talking(running, running.key()) as alice, talking(running, "wgk_abc_" + ARGUMENT) as nobody:
        for more in CALLS:
            answer = await alice.call("pay", text=ARGUMENT, **more)
            if "echo" not in more:
                said.append(answer.body)
        assert (await alice.call("look", text=ARGUMENT, echo=RESULT)).text == RESULT
        body = alice.body("tools/call", {"name": "pay", "arguments": {"text": ARGUMENT}})
        headers = {"MCP-Method": "tools/call", "MCP-Name": "pay", "MCP-Protocol-Version": "2026-07-28"}
        for wrong in (body[:-3], body.replace(b'"text"', b'"a": 1, "a"'), b"[" + body + b"]", body + b"x"):
            said.append((await alice.post(wrong, headers)).body)
        said.append((await alice.post(body.replace(b'"pay"', b'"look"'), headers)).body)
        said.append((await alice.call("pay", list=[ARGUMENT] * 20_000)).body)
        said.append((await nobody.call("look")).body)
        said.append((await alice.ask("tools/list", {"cursor": ARGUMENT})).body)
    await asyncio.sleep(0.1)  # the records of reads follow

    seen = {f"answer {number}": text for number, text in enumerate(said)}
    for path in ("/v1/status", "/v1/decisions?limit=100", "/v1/upstreams", "/v1/tools", "/metrics"):
        status, text = await running.admin(path, operator)
        assert status == 200, (path, text)
        seen[path] = text
    _, listing = await running.admin("/v1/decisions?limit=100", operator)
    items = json.loads(listing)["items"]
    assert len(items) >= 7
    for item in items:
        call_id = item.get("call_id") or item["id"]
        _, seen[f"decision {call_id}"] = await running.admin(f"/v1/decisions/{call_id}", operator)
    for command in (["decisions", "list"], ["decisions", "export"], ["keys", "list"], ["doctor"]):
        done = await running.cli(*command)
        seen[" ".join(command)] = (done.stdout + done.stderr).encode()
    assert running.stop() == 0
    seen |= places(running)

    assert b"canary" in b"".join(path.read_bytes() for path in [server.log]), (
        "the canaries were never planted"
    )
    keys = {"agent key": running.key(), "operator key": operator}
    secrets = {name: key.rsplit("_", 1)[1] for name, key in keys.items()}
    secrets["storage key"] = (running.folder / "storage.key").read_text().strip()
    secrets |= {"argument": ARGUMENT, "environment": SECRET}
    found = [
        (what, where)
        for what, canary in secrets.items()
        for where, text in seen.items()
        if any(spelling in text for spelling in spellings(canary))
    ]
    assert found == []
    # A result may be shown to operators, who read the journal; never in logs, metrics or on disk.
    kept = {"/metrics", *places(running)}
    assert [where for where, text in seen.items() if where in kept and RESULT.encode() in text] == []


async def test_canaries_of_held_calls_are_in_no_approval_message_span_metric_or_log(gateway, server):
    """The call is held, told to a webhook, looked at, rejected and approved, with everything switched on."""
    heard: list[bytes] = []

    async def hear(request: web.Request) -> web.Response:
        heard.append(await request.read())
        return web.Response()

    app = web.Application()
    app.router.add_post("/told", hear)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    hook = {
        "url": f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/told",
        "secret": "a secret of at least thirty-two bytes",
    }
    stages = [{"any": [{"who": {"roles": ["approver", "operator"]}}]}]
    with collector() as receiver:
        running = gateway(
            telemetry={
                "log_level": "debug", "otlp_endpoint": receiver.url, "sample": 1.0, "trace_content": True,
            },
            approvals={
                "chains": {"default": {"stages": stages}}, "hold_s": 0, "webhooks": {"chat": hook},
            },
        )  # fmt: skip
        tools = running.config["upstreams"]["counting"]["tools"]
        tools["pay"] = {**tools["pay"], "sensitive": ["/text"]}
        running.write_config()
        running.policy("held.rego", rule("held", HELD, codes=["needs_person"]))
        ann = Reviewer(running, "ann")
        running.start()
        seen: dict[str, bytes] = {}
        async with talking(running, running.key()) as alice:
            for number in range(2):
                said = await alice.call("pay", text=ARGUMENT, n=number)
                assert said.reason == "approval_needed"
                seen[f"held {number}"] = said.body
            _, seen["approvals"] = await running.admin("/v1/approvals", ann.key)
            first, second = sorted(await ann.waiting(), key=lambda each: each["id"])
            for each in (first, second):
                _, seen[f"approval {each['id']}"] = await running.admin(
                    f"/v1/approvals/{each['id']}", ann.key
                )
            assert (await ann.do("reject", first, reason_code="too_risky"))[0] == 200
            assert (await ann.do("approve", second))[0] == 200
            seen["rejected"] = (await alice.call("pay", text=ARGUMENT, n=0)).body
            carried_out = await alice.call("pay", text=ARGUMENT, n=1)
            assert not carried_out.refused, carried_out.body
        for command in (["approvals", "list", "--state", "executed"], ["decisions", "export"]):
            done = await running.cli(*command)
            seen[" ".join(command)] = (done.stdout + done.stderr).encode()
        _, seen["/metrics"] = await running.admin("/metrics", ann.key)
        await eventually(lambda: len(heard) >= 4)
        assert running.stop() == 0
        spans = b"".join(receiver.bodies)
    await runner.cleanup()
    seen |= {"spans": spans, "webhook": b"".join(heard), **places(running)}
    assert ARGUMENT in str(server.effects()), "it was planted"
    assert b"[redacted]" in spans and b"gen_ai.tool.call.arguments" in spans, "contents were shown"
    found = [name for name, text in seen.items() if any(each in text for each in spellings(ARGUMENT))]
    assert found == []


def test_the_search_would_find_a_canary() -> None:
    for hidden in (ARGUMENT.encode(), base64.b64encode(ARGUMENT.encode()), ARGUMENT.encode().hex().encode()):
        assert any(spelling in hidden for spelling in spellings(ARGUMENT))
