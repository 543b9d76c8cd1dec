"""Deciding about tools that run elsewhere: one permission, one outcome, and doubt where nobody reports."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.e2e.gateway import eventually, talking
from tests.surfaces.http.support import client, configured


async def test_a_decision_names_exactly_what_may_be_run_and_until_when(alice):
    got = await alice.decide("laptop/Bash", command="ls")
    assert got.status == 200 and got.body["action"] == "allow" and got.body["verdict"] == "allow"
    assert got.body["arguments"] == {"command": "ls"} and got.body["settle_within_ms"] == 60_000
    assert not got.body["result_wanted"]


async def test_policy_changes_the_arguments_of_a_decision(alice):
    got = await alice.decide("laptop/Bash", amount=500, command="pay")
    assert got.body["action"] == "modify" and got.body["arguments"] == {"amount": 100, "command": "pay"}


async def test_a_refusal_is_no_200(alice):
    got = await alice.decide("laptop/Bash", forbidden=True)
    assert got.status == 403 and got.code == "over_limit" and got.body["decision_id"]
    assert (await alice.decide("laptop/Bash", escalate=True)).status == 403


async def test_a_name_the_operator_never_wrote_is_irreversible(alice, gateway):
    got = await alice.decide("laptop/SomethingNew", x=1)
    await alice.settle(got)
    record = await gateway.recorded(lambda record: record["call_id"] == got.body["decision_id"])
    assert record["risk"] == "irreversible" and record["phase"] == "intent"


@pytest.mark.parametrize("name", ["a\u202eb", "x" * 257, " padded", "line\nbreak", ""])
async def test_a_name_that_could_pass_for_another_is_unknown(alice, name):
    got = await alice.post("/v1/decide", {"tool": {"upstream": "laptop", "name": name}})
    assert got.status in (404, 422)


async def test_a_tool_of_an_ordinary_upstream_can_be_decided_too_and_is_not_sent(alice, server):
    got = await alice.decide("counting/note", text="decided only")
    assert got.status == 200
    assert (await alice.settle(got, "ok", result={"content": []})).status == 200
    assert not server.effects("decided only")


async def test_the_intent_is_on_disk_before_the_permission_is_given(alice, gateway):
    got = await alice.decide("laptop/Bash", command="on disk?")
    assert any(
        record["call_id"] == got.body["decision_id"] and record["phase"] == "intent"
        for record in gateway.records()
    )


@pytest.mark.parametrize(
    ("outcome", "phase", "status"),
    [
        ("ok", "result", "ok"),
        ("tool_error", "result", "tool_error"),
        ("failed", "result", "failed"),
        ("not_sent", "not_sent", "not_sent"),
        ("unknown", "in_doubt", "in_doubt"),
    ],
)
async def test_what_is_reported_is_what_is_recorded(alice, gateway, outcome, phase, status):
    decided = await alice.decide("laptop/Bash", command=f"report {outcome}")
    got = await alice.settle(decided, outcome)
    assert got.status == 200 and got.body["outcome"] == status
    ends = [r for r in gateway.records() if r["call_id"] == decided.body["decision_id"]][1:]
    assert [(end["phase"], end["status"]) for end in ends] == [(phase, status)]
    assert ends[0]["detail"] == "reported by the caller"


async def test_a_result_is_judged_and_only_what_comes_back_may_be_shown(alice):
    decided = await alice.decide("laptop/Judged", q=1)
    assert decided.body["result_wanted"]
    got = await alice.settle(decided, result={"stdout": "card 1234567812345678", "code": 0})
    assert (
        got.body["result"] == {"stdout": "card [redacted:card]", "code": 0} and got.body["withheld"] is None
    )


async def test_a_forbidden_result_is_withheld(alice):
    got = await alice.settle(await alice.decide("laptop/Judged", q=2), result="top secret")
    assert got.status == 200 and got.body["outcome"] == "withheld" and got.body["result"] is None
    assert got.body["withheld"]["code"] == "secret_result"


async def test_a_result_that_policy_wants_to_see_cannot_be_left_out(alice):
    decided = await alice.decide("laptop/Judged", q=3)
    got = await alice.settle(decided)
    assert got.status == 422 and "result" in got.body["detail"]
    assert (await alice.settle(decided, "failed")).status == 200  # still open


async def test_the_same_report_twice_is_one_report(alice, gateway):
    decided = await alice.decide("laptop/Judged", q=4)
    first, again = [await alice.settle(decided, result={"a": 1}) for _ in range(2)]
    assert first.body["result"] == again.body["result"] == {"a": 1}
    assert not first.body["replayed"] and again.body["replayed"]
    ends = [r for r in gateway.records() if r["call_id"] == decided.body["decision_id"]]
    assert len(ends) == 2


@pytest.mark.parametrize("second", [("failed", None), ("ok", {"a": 2})])
async def test_the_second_story_about_a_call_is_not_believed(alice, second):
    decided = await alice.decide("laptop/Bash", command=f"stories {second}")
    assert (await alice.settle(decided, "ok", result={"a": 1})).status == 200
    got = await alice.settle(decided, second[0], result=second[1])
    assert got.status == 409 and got.code == "already_settled"


async def test_of_many_reports_at_once_one_outcome_stands(alice, gateway):
    decided = await alice.decide("laptop/Bash", command="race")
    got = await asyncio.gather(
        *(alice.settle(decided, outcome) for outcome in ("ok", "failed", "not_sent", "ok", "unknown") * 4)
    )
    assert sorted({each.status for each in got}) == [200, 409]
    assert len({each.body["outcome"] for each in got if each.status == 200}) == 1
    assert len([r for r in gateway.records() if r["call_id"] == decided.body["decision_id"]]) == 2


async def test_somebody_elses_decision_does_not_exist(alice, bob):
    decided = await alice.decide("laptop/Bash", command="mine")
    theirs, guessed = await bob.settle(decided), await bob.settle("0193a5b2-7c1e-7d4e-9f2a-3b1c5d7e9f01")
    assert theirs.status == guessed.status == 404 and theirs.raw == guessed.raw
    assert (await alice.settle(decided)).status == 200


async def test_a_call_the_gateway_made_cannot_be_settled_by_the_agent(alice):
    made = await alice.call("counting/note", text="made here", then="die")
    got = await alice.settle(made.body["decision_id"])
    assert got.status == 404 and got.code == "unknown_decision"


async def test_a_refused_call_cannot_be_settled(alice):
    got = await alice.settle((await alice.decide("laptop/Bash", forbidden=True)).body["decision_id"])
    assert got.status == 404


# ------------------------------------------------------------------------------------------- too late


async def lapsed(alice, gateway, tool="laptop/Short", **arguments):
    decided = await alice.decide(tool, **arguments)
    await gateway.recorded(
        lambda r: r["call_id"] == decided.body["decision_id"] and r.get("outcome_code") == "decision_lapsed"
    )
    return decided


async def test_a_decision_nobody_settles_is_in_doubt(alice, gateway):
    decided = await lapsed(alice, gateway, command="forgotten")
    assert decided.body["decision_id"] in [record["call_id"] for record in gateway.in_doubt()]
    # … and so is what it would have done: the same again is not permitted.
    got = await alice.decide("laptop/Short", command="forgotten")
    assert got.status == 409 and got.code == "in_doubt"


async def test_a_late_report_that_it_happened_resolves_the_doubt_and_keeps_the_effect_key(alice, gateway):
    decided = await lapsed(alice, gateway, "laptop/Pay", id=7)
    got = await alice.settle(decided, "ok", result={"secret": "?"})
    assert got.status == 200 and got.body["late"] and got.body["outcome"] == "ok"
    assert got.body["result"] is None and got.body["withheld"]["code"] == "result_withheld"
    record = await gateway.recorded(
        lambda r: r["call_id"] == decided.body["decision_id"] and r["phase"] == "reconciled"
    )
    assert record["operator"] == "agent:alice" and record["status"] == "executed"

    async def answer():
        return (await alice.decide("laptop/Pay", id=7)).code

    for _ in range(50):  # the gateway takes resolutions in twice a second
        if await answer() == "duplicate_effect":
            break
        await asyncio.sleep(0.05)
    assert await answer() == "duplicate_effect"
    assert (await alice.settle(decided)).body["replayed"]


@pytest.mark.parametrize("outcome", ["failed", "not_sent", "tool_error"])
async def test_a_late_report_that_it_did_not_happen_frees_nothing(alice, gateway, outcome):
    decided = await lapsed(alice, gateway, "laptop/Pay", id=outcome)
    got = await alice.settle(decided, outcome)
    assert got.status == 409 and got.code == "decision_lapsed"
    assert (await alice.decide("laptop/Pay", id=outcome)).code == "in_doubt"


async def test_a_tool_of_an_ordinary_upstream_that_was_only_decided_lapses_like_any_other(alice, gateway):
    decided = await lapsed(alice, gateway, "counting/pay", text="decided, never reported")
    assert (await alice.settle(decided, "failed")).code == "decision_lapsed"
    assert (await alice.settle(decided, "ok")).body["late"]


async def test_a_tool_that_runs_elsewhere_is_not_among_those_of_mcp(alice, gateway):
    async with talking(gateway, gateway.key(), upstream="") as agent:
        listed = [each["name"] for each in (await agent.ask("tools/list", {})).result["tools"]]
        assert "counting__note" in listed and not [name for name in listed if name.startswith("laptop")]
        said = await agent.call("laptop__Bash", command="ls")
        assert said.reason == "runs_elsewhere"
        assert (await agent.ask("tools/list", {}, upstream="laptop")).status == 404


async def test_what_a_person_said_of_a_doubt_stands(alice, gateway):
    decided = await lapsed(alice, gateway, command="resolved")
    done = await gateway.cli("decisions", "resolve", decided.body["decision_id"], "--became", "not-executed")
    assert done.returncode == 0, done.stderr
    got = await alice.settle(decided, "ok")
    assert got.status == 409 and got.code == "already_settled"


async def test_only_the_owner_may_resolve_a_doubt(alice, bob, gateway):
    decided = await lapsed(alice, gateway, command="not bobs")
    assert (await bob.settle(decided)).status == 404


async def test_a_restart_leaves_open_decisions_in_doubt_and_their_owner_may_confirm(tmp_path, server):
    wardgate = configured(tmp_path / "own", server)
    try:
        wardgate.start()
        async with client(wardgate, "alice") as alice:
            write = await alice.decide("laptop/Bash", key="use-1", command="x")
            read = await alice.decide("laptop/Read", path="x")
            wardgate.kill()
            await asyncio.to_thread(wardgate.start)
            assert [r["call_id"] for r in wardgate.in_doubt()] == [write.body["decision_id"]]
            # The same key does not give the permission a second time …
            again = await alice.decide("laptop/Bash", key="use-1", command="x")
            assert again.status == 409 and again.body["effect"] == "unknown"
            # … and still names the decision.
            late = await alice.post("/v1/settle", {"idempotency_key": "use-1", "outcome": "ok"})
            assert late.status == 200 and late.body["late"]
            assert late.body["decision_id"] == write.body["decision_id"]
            assert (await alice.settle(read)).status in (404, 409)
        assert not wardgate.in_doubt()
    finally:
        wardgate.close()


# --------------------------------------------------------------------------------------- keys and floods


async def test_an_idempotency_key_gives_one_permission_and_never_a_second_after_it_was_used(alice):
    first = await alice.decide("laptop/Bash", key="one", command="once")
    again = await alice.decide("laptop/Bash", key="one", command="once")
    assert first.raw == again.raw and again.headers["idempotent-replayed"] == "true"
    got = await alice.post("/v1/settle", {"idempotency_key": "one", "outcome": "ok"})
    assert got.body["decision_id"] == first.body["decision_id"]
    used = await alice.decide("laptop/Bash", key="one", command="once")
    assert used.status == 409 and used.code == "already_settled"


async def test_an_effect_key_in_the_air_is_not_permitted_twice(alice):
    first = await alice.decide("laptop/PayLong", id=1)
    assert (await alice.decide("laptop/PayLong", id=1)).code == "duplicate_effect"
    await alice.settle(first, "not_sent")
    assert (await alice.decide("laptop/PayLong", id=1)).status == 200


async def test_permissions_nobody_reports_on_run_out_for_one_agent_and_not_for_others(tmp_path, server):
    wardgate = configured(tmp_path / "own", server, limits={"open_decisions_per_agent": 3})
    try:
        wardgate.start()
        async with client(wardgate, "alice") as alice, client(wardgate, "bob") as bob:
            got = await asyncio.gather(*(alice.decide("laptop/Bash", n=n) for n in range(6)))
            given = [each for each in got if each.status == 200]
            assert len(given) == 3
            assert {each.code for each in got if each.status != 200} == {"overloaded"}
            assert (await bob.decide("laptop/Bash", n=1)).status == 200
            assert (await alice.settle(given[0])).status == 200
            assert (await alice.decide("laptop/Bash", n=9)).status == 200
            metrics = (await wardgate.admin("/metrics", ""))[1].decode()
            assert "wardgate_decisions_open 4.0" in metrics
            assert 'wardgate_decisions_settled_total{status="ok",upstream="laptop"} 1.0' in metrics
    finally:
        wardgate.close()


async def test_a_denied_decision_takes_no_place(alice):
    for _ in range(20):
        await alice.decide("laptop/Bash", forbidden=True)


async def test_who_hangs_up_while_settling_has_settled(alice, gateway):
    decided = await alice.decide("laptop/Bash", command="hang up")
    decision_id = decided.body["decision_id"]
    body = json.dumps({"decision_id": decision_id, "outcome": "ok"}).encode()
    host, port = gateway.agents_url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /v1/settle HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer " + alice.key.encode()
        + b"\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    )  # fmt: skip
    await writer.drain()
    writer.close()
    await eventually(
        lambda: any(r["call_id"] == decision_id and r["phase"] == "result" for r in gateway.records())
    )
