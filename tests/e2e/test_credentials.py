"""Credentials and assertions through the whole gateway: rotation, whose they are, who can see them."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import aiohttp
import jwt

from tests.e2e.gateway import eventually, talking
from tests.e2e.test_secrets import places, spellings
from tests.telemetry.scene import collector

AUDIENCE = "https://counting.internal/mcp"


def put(path: Path, text: str) -> str:
    beside = path.with_name(path.name + ".new")
    beside.touch(0o600)
    beside.write_text(text)
    beside.replace(path)
    return str(path)


def header(contact: dict[str, Any], name: str) -> str | None:
    found = re.search(rf"^{name}: (.*?)\r?$", contact["head"], re.MULTILINE | re.IGNORECASE)
    return found.group(1) if found else None


async def test_files_are_rotated_and_two_agents_are_told_apart(gateway, server, tmp_path):
    """Under load from two agents each call carries its own agent's secret, and none fails."""
    mine = {name: put(tmp_path / name, f"{name}-0\n") for name in ("own", "alice", "bob")}
    agents = {"alice": {"file": mine["alice"]}, "bob": {"file": mine["bob"]}}
    running = gateway({"credentials": {"secret": {"file": mine["own"]}, "agents": agents}}).start()

    async def work(name: str) -> None:
        async with talking(running, running.key(name)) as agent:
            for number in range(40):
                answer = await agent.call("look", text=f"{name} {number}")
                assert answer.reason is None, answer.body
                if number == 20:
                    put(tmp_path / name, f"{name}-{number}\n")
                    await asyncio.sleep(1.2)

    await asyncio.gather(work("alice"), work("bob"))
    seen = {"alice": set(), "bob": set()}
    calls = [each for each in server.contacts() if each["method"] == "tools/call"]
    texts = [each["arguments"]["text"] for each in server.effects()]
    assert len(calls) == len(texts) == 80
    for contact, text in zip(calls, texts, strict=True):
        name = text.split()[0]
        credential = header(contact, "authorization") or ""
        assert credential.startswith(f"Bearer {name}-")
        seen[name].add(credential)
    assert {name: len(found) for name, found in seen.items()} == {"alice": 2, "bob": 2}
    lists = [each for each in server.events("contact") if each["method"] == "tools/list"]
    assert {header(each, "authorization") for each in lists} == {"Bearer own-0"}


async def test_secrets_of_every_source_are_found_nowhere(gateway, server, tmp_path):
    canaries = {name: f"canary-{name}-4e7d2" for name in ("file", "command", "child", "late", "broken")}
    script = tmp_path / "helper.py"
    script.write_text(f"print({canaries['command']!r})")
    noisy = tmp_path / "noisy.py"
    noisy.write_text(f"import sys\nprint({canaries['broken']!r}, file=sys.stderr)\nsys.exit(2)")
    split = tmp_path / "split"
    split.write_text(f"{canaries['late']}\r\nX-Admin: {canaries['late']}")
    split.chmod(0o600)
    of_file = put(tmp_path / "token", canaries["file"])
    running = gateway(
        {"credentials": {"secret": {"file": of_file}}},
        telemetry={"log_level": "debug", "sample": 1.0},
    )
    upstreams = running.config["upstreams"]
    tools = upstreams["counting"]["tools"]
    upstreams["helped"] = {
        "url": server.url,
        "tools": tools,
        "credentials": {"secret": {"command": [sys.executable, "-I", str(script)]}},
    }
    upstreams["broken"] = {
        "url": server.url,
        "tools": tools,
        "credentials": {
            "secret": {"command": [sys.executable, "-I", str(script)]},
            "agents": {
                "alice": {"command": [sys.executable, "-I", str(noisy)]},
                "bob": {"file": str(split)},
            },
        },
    }
    environment = "import os, sys; print(dict(os.environ), file=sys.stderr); print(dict(os.environ))"
    upstreams["child"] = {
        "command": [sys.executable, "-c", environment],
        "tools": tools,
        "credentials": {"variable": "TOKEN", "secret": {"file": put(tmp_path / "c", canaries["child"])}},
    }
    operator = await running.new_operator()
    said = []
    with collector() as receiver:
        running.config["telemetry"]["otlp_endpoint"] = receiver.url
        running.write_config()
        running.start()
        async with talking(running, running.key()) as alice, talking(running, running.key("bob")) as bob:
            assert (await alice.call("look", text="x")).reason is None
            assert (await alice.call("look", upstream="helped", text="x")).reason is None
            for agent in (alice, bob):
                refused = await agent.call("note", upstream="broken", text="x")
                said.append(refused.body)
                assert refused.reason == "credential_unavailable"
            for then in ("die", "garbage", "wrong_id"):
                said.append((await alice.call("pay", text="x", then=then)).body)
            assert (await alice.call("look", text="x")).reason is None
        await asyncio.sleep(0.2)
        seen = {f"answer {number}": body for number, body in enumerate(said)}
        for path in ("/v1/status", "/v1/decisions?limit=100", "/v1/upstreams", "/v1/tools", "/metrics"):
            status, seen[path] = await running.admin(path, operator)
            assert status == 200
        _, listing = await running.admin("/v1/decisions?limit=100", operator)
        for item in json.loads(listing)["items"]:
            _, seen[item["call_id"]] = await running.admin(f"/v1/decisions/{item['call_id']}", operator)
        for command in (["decisions", "export"], ["doctor"], ["config", "check"]):
            done = await running.cli(*command)
            seen[" ".join(command)] = (done.stdout + done.stderr).encode()
        assert running.stop() == 0
        seen["spans"] = b"".join(receiver.bodies)
        assert receiver.spans
    seen |= places(running)
    log = server.log.read_bytes()
    assert canaries["file"].encode() in log and canaries["command"].encode() in log, "they were sent"
    assert b"***" in seen["stderr.log"], "the child did write its environment"
    found = [
        (what, where)
        for what, canary in canaries.items()
        for where, text in seen.items()
        if any(spelling in text for spelling in spellings(canary))
    ]
    assert found == []

    # What there is to see instead.
    states = {each["name"]: each for each in json.loads(seen["/v1/upstreams"])["items"]}
    assert states["counting"]["credentials"]["ok"] == 1 and states["counting"]["state"] == "ok"
    assert states["broken"]["credentials"] == {**states["broken"]["credentials"], "ok": 1, "unavailable": 2}
    assert states["broken"]["state"] == "degraded"
    metrics = seen["/metrics"].decode()
    assert 'wardgate_upstream_credentials{state="unavailable",upstream="broken"} 2.0' in metrics or (
        'wardgate_upstream_credentials{upstream="broken",state="unavailable"} 2.0' in metrics
    )
    assert "upstreams.broken.credentials.agents.alice: the command ended with 2" in seen["doctor"].decode()


async def test_a_tool_server_verifies_with_the_published_keys_also_across_a_rotation(gateway, server):
    running = gateway({"assertion": True, "audience": AUDIENCE}, assertion={"key_file": "signing.json"})
    code, why = running.refuses_to_start()
    assert code == 2 and "wardgate assertion new" in why
    made = await running.cli_json("assertion", "new")
    assert (running.folder / "signing.json").stat().st_mode & 0o777 == 0o600
    assert (await running.cli("assertion", "new")).returncode == 2, "an existing key must not be lost"
    running.start()
    url = running.admin_url + "/.well-known/wardgate/jwks.json"

    async def published() -> list[str]:
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            assert response.status == 200
            return [key["kid"] for key in (await response.json())["keys"]]

    def verify(contact: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        token = header(contact, "wardgate-assertion")
        key = jwt.PyJWKClient(url).get_signing_key_from_jwt(token)
        claims = jwt.decode(token, key, algorithms=["EdDSA"], audience=AUDIENCE, issuer="wardgate")
        return key.key_id, claims

    assert await published() == [made["kid"]]
    async with talking(running, running.key()) as alice:
        assert (await alice.call("note", text="first")).reason is None
        kid, claims = await asyncio.to_thread(verify, server.contacts()[-1])
        assert kid == made["kid"]
        assert (claims["agent"], claims["owner"], claims["target"]) == ("alice", "team-a", "counting/note")
        record = await running.recorded(lambda each: each["call_id"] == claims["jti"])
        assert record["digest"] == claims["digest"]
        second = await running.cli_json("assertion", "rotate", "--lead", "0s", "--keep", "1h")
        async with asyncio.timeout(5):
            while len(await published()) < 2:
                await asyncio.sleep(0.1)
        assert (await alice.call("note", text="second")).reason is None
        assert (await asyncio.to_thread(verify, server.contacts()[-1]))[0] == second["kid"]
        listed = await running.cli_json("assertion", "list")
        assert [each["state"] for each in listed] == ["published", "signs"]
        assert (await running.cli("assertion", "revoke", made["kid"])).returncode == 0
        await eventually(lambda: "signing keys read again" in running.log())
        async with asyncio.timeout(5):
            while await published() != [second["kid"]]:
                await asyncio.sleep(0.1)
    printed = json.loads((await running.cli("assertion", "jwks")).stdout)
    assert [key["kid"] for key in printed["keys"]] == [second["kid"]]
    private = [key["d"] for key in json.loads((running.folder / "signing.json").read_text())["keys"]]
    assert not [each for each in private if each in running.log() + json.dumps(printed)]
