"""Break-glass through the whole: declared, opened by two people, heard of, marked everywhere, over."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time

import aiohttp
import pytest
from aiohttp import web

from gateway.config import load
from gateway.errors import ConfigError
from tests.e2e.gateway import ROOT, WARDGATE, talking
from tests.e2e.test_approvals import CHAINS, HELD, Reviewer

SECRET = "0123456789abcdef0123456789abcdef"
OUTAGE = {
    "title": "nobody can be reached", "openers": {"names": ["ann", "bob"]}, "agents": ["alice"],
    "tools": ["counting/pay"], "chains": ["default"], "max_s": 600, "max_uses": 3,
}  # fmt: skip


@pytest.fixture
async def heard():
    """What the party that is told has been told."""
    told = []

    async def hook(request):
        told.append(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", hook)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield told, f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    await runner.cleanup()


@pytest.fixture
def world(gateway, server, heard):
    running = gateway(
        approvals={
            "chains": CHAINS, "hold_s": 0, "envelopes": {"outage": OUTAGE},
            "webhooks": {"pager": {"url": heard[1], "secret": SECRET}},
        },
    )  # fmt: skip
    running.policy("held.rego", HELD)
    people = {name: Reviewer(running, name) for name in ("ann", "bob", "cat")}
    people["vic"] = Reviewer(running, "vic", "viewer")
    return running.start(), server, people


async def post(person, path, **body):
    headers = {"Authorization": f"Bearer {person.key}"}
    url = f"{person.gateway.admin_url}/v1/{path}"
    async with aiohttp.ClientSession(headers=headers) as http, http.post(url, json=body) as answer:
        return answer.status, await answer.json()


async def until_told(told, event):
    deadline = time.monotonic() + 5
    while not (found := [each for each in told if each["event"] == event]):
        assert time.monotonic() < deadline, told
        await asyncio.sleep(0.05)
    return found[-1]


async def test_two_people_open_it_and_what_it_lets_through_is_marked_everywhere(world, heard):
    running, server, people = world
    ann, bob, cat, vic = (people[name] for name in ("ann", "bob", "cat", "vic"))
    told, _ = heard
    async with talking(running, running.key()) as alice, talking(running, running.key("bob")) as other:
        waiting = await alice.call("pay", text="before")
        assert waiting.facts["decision"] == "pending"
        for person, status in ((vic, 403), (cat, 403)):
            got, said = await post(person, "envelopes/outage/ask", reason="now", minutes=5)
            assert (got, said["code"]) == (status, "wrong_role" if person is vic else "not_entitled")
        assert (await post(ann, "envelopes/nothing/ask", reason="now", minutes=5))[0] == 404
        assert (await post(ann, "envelopes/outage/ask", reason=" ", minutes=5))[0] == 422
        assert (await post(ann, "envelopes/outage/ask", reason="now", minutes=61))[0] == 422
        status, asked = await post(ann, "envelopes/outage/ask", reason="the chat is down", minutes=5)
        assert status == 200 and asked["state"] == "asked"
        status, said = await post(ann, f"openings/{asked['id']}/second")
        assert (status, said["code"]) == (403, "self_approval")
        assert (await alice.call("pay", text="alone")).facts["decision"] == "pending"

        status, now_open = await post(bob, f"openings/{asked['id']}/second")
        assert status == 200 and now_open["state"] == "open" and now_open["expires"]
        page = await until_told(told, "envelope_opened")
        assert (
            page["envelope"]["owners"] == ["team-a"] and page["envelope"]["opening"]["seconded_by"] == "bob"
        )

        for text in ("before", "during"):  # what waited already, and what comes now
            said = await alice.call("pay", text=text)
            assert not said.refused and len(server.effects(text)) == 1
        again = await alice.call("pay", text="during")
        assert again.reason == "approval_done" and len(server.effects("during")) == 1
        outside = [await alice.call("note", text="x"), await other.call("pay", text="y")]
        assert all(each.facts["decision"] == "pending" for each in outside)

        _, listed = await ann.get("/v1/approvals?state=executed")
        assert [each["envelope"] for each in listed["items"]] == [asked["id"]] * 2
        for each in listed["items"]:
            _, detail = await ann.get(f"/v1/approvals/{each['id']}")
            assert not detail["votes"]
            assert any(event["event"] == "discharged" for event in detail["events"])
        records = [each for each in running.exported() if each.get("envelope")]
        assert len({each["call_id"] for each in records}) == 2
        assert {each["envelope"] for each in records} == {"outage"}
        assert all(each["target"] == "counting/pay" and each["verdict"] == "escalate" for each in records)
        shown = await running.cli("decisions", "show", records[0]["call_id"])
        assert "outage" in shown.stdout
        paged = await until_told(told, "discharged")
        assert paged["approval"]["envelope"] == asked["id"] and paged["approval"]["owner"] == "team-a"
        async with aiohttp.ClientSession() as http, http.get(running.admin_url + "/metrics") as response:
            metrics = await response.text()
        assert 'wardgate_unenforced_total{reason="envelope",stage="approval"} 2.0' in metrics or (
            'wardgate_unenforced_total{stage="approval",reason="envelope"} 2.0' in metrics
        )
        assert "wardgate_approval_envelopes_open 1.0" in metrics

        status, closed = await post(cat, f"openings/{asked['id']}/close")
        assert status == 200 and (closed["state"], closed["uses"]) == ("closed", 2)
        assert (await post(cat, f"openings/{asked['id']}/close"))[0] == 409
        assert (await alice.call("pay", text="after")).facts["decision"] == "pending"
        assert not server.effects("after")
        assert (await until_told(told, "envelope_closed"))["envelope"]["opening"]["closed_by"] == "cat"

        await by_the_command_line(running, people, alice)


async def by_the_command_line(running, people, alice):
    async def cli(person, *words):
        done = await asyncio.to_thread(
            subprocess.run,
            [*WARDGATE, "envelopes", *words, "--url", running.admin_url],
            capture_output=True, text=True, timeout=60, cwd=ROOT,
            env={**os.environ, "WARDGATE_OPERATOR_KEY": people[person].key},
        )  # fmt: skip
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    code, out = await cli("ann", "ask", "outage", "--reason", "a drill", "--minutes", "1", "--json")
    asked = json.loads(out)
    assert code == 0 and asked["state"] == "asked"
    code, out = await cli("ann", "second", asked["id"])
    assert code != 0 and "comes from you" in out
    code, out = await cli("bob", "second", asked["id"])
    assert code == 0 and "outage is open until" in out
    assert not (await alice.call("pay", text="a drill")).refused
    code, out = await cli("cat", "list")
    assert code == 0 and "outage" in out and "1/3" in out
    code, out = await cli("ann", "close", asked["id"])
    assert code == 0 and "1 call(s)" in out
    code, out = await cli("vic", "history", "--json")
    assert code == 0 and [each["uses"] for each in json.loads(out)["items"]] == [1, 2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_s": 3601}, "less than or equal to 3600"),
        ({"openers": {"names": ["ann"]}}, "at least two people"),
        ({"openers": {"groups": ["nobody"]}}, "there is no group nobody"),
        ({"chains": ["payments"]}, "there is no chain payments"),
        ({"chains": []}, "at least 1 item"),
        ({"agents": ["mallory"]}, "mallory is no agent"),
        ({"tools": ["*"]}, "should match pattern"),
        ({"tools": ["*/*"]}, "should match pattern"),
        ({"tools": ["elsewhere/pay"]}, "elsewhere is no upstream"),
        ({"always": True}, "Extra inputs"),
    ],
)
def test_an_envelope_that_could_let_anything_through_is_refused_with_its_line(tmp_path, change, said):
    config = {
        "storage": {"key_file": "k"}, "agents": {"alice": {"owner": "team-a"}},
        "upstreams": {"counting": {"url": "https://tools.example/mcp"}},
        "approvals": {"chains": CHAINS, "envelopes": {"outage": {**OUTAGE, **change}}},
    }  # fmt: skip
    path = tmp_path / "wardgate.yaml"
    path.write_text(json.dumps(config, indent=1))  # JSON is YAML
    lines = path.read_text().splitlines()
    begin = next(n for n, text in enumerate(lines, 1) if '"outage"' in text)
    with pytest.raises(ConfigError) as refused:
        load(path)
    text = str(refused.value)
    assert said in text
    line = int(text.partition("wardgate.yaml:\n  wardgate.yaml:")[2].partition(":")[0])
    assert begin <= line <= len(lines), text
