"""Every way into an upstream goes through policy, and whatever is wrong with policy is a refusal."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.e2e.gateway import DENY_ALL, eventually, rule, talking

PATHS = {
    # kind of record: (method, params, name repeated in the header)
    "tool": ("tools/call", {"name": "look", "arguments": {}}, "look"),
    "prompt": ("prompts/get", {"name": "greet", "arguments": {"who": "me"}}, "greet"),
    "resource": ("resources/read", {"uri": "note://today"}, "note://today"),
    "completion": (
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "who", "value": "m"}},
        "",
    ),
}


async def test_every_way_to_an_upstream_leaves_a_decision_and_can_be_denied(gateway, server):
    running = gateway().start()
    targets = {}
    seq = 0
    async with talking(running, running.key()) as alice:
        for kind, (method, params, name) in PATHS.items():
            said = await alice.ask(method, params, name=name)
            assert said.status == 200 and said.reason is None, (kind, said.message)
            record = await running.recorded(
                lambda record, seq=seq: record.get("verdict") and record["seq"] > seq
            )
            seq = record["seq"]
            assert (record["verdict"], record["action"], record["agent"]) == ("allow", "allow", "alice")
            targets[kind] = record["target"]
        assert [contact["method"] for contact in server.contacts()] == [
            method for method, _, _ in PATHS.values()
        ]

        running.policy("all.rego", DENY_ALL)
        await eventually(lambda: "reloaded" in running.log())
        contacts = len(server.contacts())
        for kind, (method, params, name) in PATHS.items():
            said = await alice.ask(method, params, name=name)
            assert said.status == 200 and said.reason == "closed", kind
            await running.recorded(
                lambda record, kind=kind: record.get("code") == "closed" and record["target"] == targets[kind]
            )
        assert len(server.contacts()) == contacts


WRONG = {
    # what the module does wrong: (body, declared codes, reason)
    "a set member that is no object": ('deny contains "nope"', [], "policy_bad_shape"),
    "no code": ('deny contains {"message": "no"}', [], "policy_bad_shape"),
    "a code of another type": ('deny contains {"code": 7, "message": "no"}', [], "policy_bad_shape"),
    "a code it does not declare": ('allow contains {"code": "mine", "message": "x"}', [], "undeclared_code"),
    "an unknown obligation": (
        'allow contains {"code": "fine", "message": "x"}\nobligation contains {"kind": "dance", "value": 1}',
        ["fine"],
        "obligation_conflict",
    ),
    "a conflict of values": (
        'v := 1 if input.call.args.text\nv := 2 if input.call.args.text\n'
        'allow contains {"code": "fine", "message": "x"} if v == 1',
        ["fine"],
        "policy_error",
    ),
    "a type error in a built-in": (
        'deny contains {"code": "late", "message": "x"} if to_number(input.call.args.text) > 1',
        ["late"],
        "policy_error",
    ),
    "no answer at all": (
        'allow contains {"code": "fine", "message": "x"} if input.call.args.absent',
        ["fine"],
        "no_rule_allows",
    ),
}  # fmt: skip


async def test_a_policy_that_fails_or_talks_nonsense_refuses_with_a_code_of_its_own(gateway, server):
    """One module a tool, and beside each a module that would allow everything: an error wins over it."""
    running = gateway()
    running.config["upstreams"] = {
        f"u{number}": running.config["upstreams"]["counting"] for number, _ in enumerate(WRONG)
    }
    running.write_config()
    allows = 'allow contains {"code": "fine", "message": "go"}'
    named = [f"u{number}/*" for number, what in enumerate(WRONG) if what != "no answer at all"]
    running.policy("all.rego", rule("all", allows, codes=["fine"], scope={"tools": named}))
    for number, (body, codes, _) in enumerate(WRONG.values()):
        scope = {"tools": [f"u{number}/*"]}
        running.policy(f"wrong{number}.rego", rule(f"wrong{number}", body, codes=codes, scope=scope))
    running.start()
    async with talking(running, running.key()) as alice:
        for number, (what, (_, _, reason)) in enumerate(WRONG.items()):
            said = await alice.call("pay", upstream=f"u{number}", text="no number")
            assert (said.status, said.refused, said.reason) == (200, True, reason), what
            record = await running.recorded(
                lambda record, number=number: record.get("target") == f"u{number}/pay"
            )
            assert (record["verdict"], record["action"], record["code"]) == ("deny", "block", reason), what
    assert server.contacts() == []


NOT_LOADED = {
    "does not parse": (rule("broken", 'deny contains {"code": "x" if'), "broken.rego:"),
    "has a misspelt package": (DENY_ALL.replace("wardgate.rules", "wardgate.rule"), "broken.rego:"),
}


@pytest.mark.parametrize("why", NOT_LOADED)
async def test_serve_refuses_to_start_without_a_sound_policy_and_names_the_line(gateway, server, why):
    text, where = NOT_LOADED[why]
    running = gateway()
    running.policy("broken.rego", text)
    code, said = await asyncio.to_thread(running.refuses_to_start)
    assert code == 2 and "Traceback" not in said
    place = said[said.index(where) + len(where) :]
    assert place[0].isdigit(), said
    assert server.contacts() == []


async def test_the_shipped_packs_decide_by_risk(gateway, server):
    """Starter: reads and what can be undone pass, what cannot be undone asks a person."""
    running = gateway(policy={"pack": "starter", "path": "policies"})
    (running.policies / "all.rego").unlink()
    running.start()
    async with talking(running, running.key()) as alice:
        assert (await alice.call("look")).text == "done"
        assert (await alice.call("note", text="x")).text == "done"
        said = await alice.call("pay", text="x")
        assert said.reason in ("irreversible_needs_person", "approvals_not_configured")
        assert said.facts["remedy"]
        said = await alice.call("send", text="AKIAABCDEFGHIJKLMNOP")
        assert said.reason == "secret_in_arguments"
        said = await alice.call("look", echo="the key is AKIAABCDEFGHIJKLMNOP")
        assert "AKIA" not in json.dumps(said.message)
    assert [effect["tool"] for effect in server.effects()] == ["look", "note", "look"]
    held = await running.recorded(lambda record: record.get("target") == "counting/pay")
    assert held["verdict"] == "escalate" and held["action"] in ("block", "hold")
