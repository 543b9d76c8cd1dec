"""What is recorded of a call, and when the journal refuses."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import JournalError
from gateway.journal.query import Filter, Query
from gateway.journal.recovery import live_effects, recover
from gateway.model import Call, Decision, Facts, Finding, Obligation, Outcome
from gateway.ports import Journal as Port
from gateway.storage.database import Database
from tests.journal import support
from tests.journal.support import (
    ALICE,
    ALLOW,
    DENY,
    FACTS,
    KEY,
    LOOK,
    PAY,
    call,
    carry_out,
    in_doubt,
    ok,
    running,
    tool,
    until,
)
from tests.storage.at import at, sqlite_only


def phases(database: Database, call_id: str) -> list[str]:
    with database.reading() as connection:
        rows = connection.exec_driver_sql(
            database.statement("SELECT phase FROM records WHERE call_id = ? ORDER BY seq"), (call_id,)
        )
        return [row[0] for row in rows]


async def test_the_intent_of_a_write_is_committed_when_intent_returns(tmp_path: Path) -> None:
    async with running(tmp_path / "w.db") as (journal, database):
        made = call(PAY)
        await journal.intent(made, FACTS, ALLOW, "allow")
        assert phases(database, made.id) == ["intent"]
        await journal.settle(made, ALLOW, "allow", ok(), None)
        assert phases(database, made.id) == ["intent", "result"]


async def test_a_read_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    async with running(tmp_path / "w.db", read_batch_ms=200) as (journal, database):
        made = call(LOOK)
        began = time.monotonic()
        await carry_out(journal, made)
        assert time.monotonic() - began < 0.1
        assert phases(database, made.id) == []
        await until(lambda: journal.depth == 0)
        assert phases(database, made.id) == ["result"], "both are known, so one record says both"


async def test_a_slow_read_is_on_record_before_its_answer(tmp_path: Path) -> None:
    async with running(tmp_path / "w.db", read_batch_ms=1) as (journal, database):
        made = call(LOOK)
        await journal.intent(made, FACTS, ALLOW, "allow")
        await until(lambda: journal.depth == 0)
        assert phases(database, made.id) == ["intent"]
        await journal.settle(made, ALLOW, "allow", ok(), None)
    with at(tmp_path / "w.db").open() as database:
        assert phases(database, made.id) == ["intent", "result"]


async def test_a_record_names_who_what_why_and_what_was_in_force(tmp_path: Path) -> None:
    made = call(tool(effect_key="refund:{to}", sensitive=("/to",)), effect_key="refund:bob")
    async with running(tmp_path / "w.db") as (journal, database):
        await carry_out(journal, made)
        shown = Query(database).show(made.id)
    assert shown is not None
    intent, end = shown.records
    assert {name: intent[name] for name in ("tenant", "agent", "session", "target", "risk", "digest")} == {
        "tenant": "default", "agent": "alice-bot", "session": "s-1", "target": "bank/pay",
        "risk": "irreversible", "digest": made.digest,
    }  # fmt: skip
    assert (intent["verdict"], intent["action"], intent["mode"]) == ("allow", "allow", "enforce")
    assert intent["code"] == "within_limits"
    assert intent["findings"][0]["rule"] == "payments.limit"
    assert intent["facts"]["fast"] == {"session": {"calls": 3, "writes": 1}}
    assert intent["effect_key"] == end["effect_key"] == "refund:bob"
    assert intent["received_ns"] == made.received_ns <= intent["at_ns"] <= end["at_ns"]
    assert intent["agent_snapshot"]["owner"] == "alice"
    assert intent["tool_snapshot"]["manifest"]["effect_key"] == "refund:{to}"
    assert intent["in_force"] == {
        "engine": "regorus 0.13.0", "entry": "data.wardgate.call",
        "rules": ["payments.limit", "starter.reads"],
        "controls": ["approvals:absent", "breakers:absent"],
        "policy_revision": "bundle-7", "config_revision": "cfg-1", "keys_revision": "keys-1",
        "catalog_revision": "cat-1",
    }  # fmt: skip
    assert (end["status"], end["upstream_ns"]) == ("ok", 1_200_000)
    assert intent["args_mac"] == KEY.mac(f"{made.id}/arguments", made.args_json)
    assert end["result_mac"] == KEY.mac(f"{made.id}/result", ok().result_json)


async def test_after_a_reload_records_name_the_controls_that_are_in_force_then(tmp_path: Path) -> None:
    before, after = call(LOOK), call(LOOK)
    async with running(tmp_path / "w.db") as (journal, database):
        await carry_out(journal, before)
        await journal.intent(
            call(PAY), FACTS, ALLOW, "allow"
        )  # waits for the disk, and what is before it too
        journal.configured(("breakers:memory",))
        await carry_out(journal, after)
        await journal.stop()
        named = [Query(database).show(made.id).records[0]["in_force"]["controls"] for made in (before, after)]
    assert named == [["approvals:absent", "breakers:absent"], ["breakers:memory"]]


async def test_what_many_calls_share_is_stored_once(tmp_path: Path) -> None:
    async with running(tmp_path / "w.db") as (journal, database):
        for _ in range(20):
            await carry_out(journal, call(PAY))
        with database.reading() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM snapshots").scalar() == 3


@pytest.mark.parametrize(
    ("outcome", "phase"),
    [
        (ok(), "result"),
        (Outcome(status="tool_error", result_json=b'{"isError":true}'), "result"),
        (Outcome(status="rpc_error", error_json=b'{"code":-1}'), "result"),
        (Outcome(status="withheld", code="result_withheld", result_json=b"{}"), "result"),
        (Outcome(status="not_sent", code="upstream_unavailable"), "not_sent"),
        (in_doubt(), "in_doubt"),
        (None, "not_sent"),
    ],
)
async def test_every_outcome_has_a_phase_and_only_a_proven_non_send_says_not_sent(
    tmp_path: Path, outcome: Outcome | None, phase: str
) -> None:
    async with running(tmp_path / "w.db") as (journal, database):
        made = call(PAY)
        await journal.intent(made, FACTS, ALLOW, "allow")
        await journal.settle(made, ALLOW, "allow", outcome, None)
        assert phases(database, made.id) == ["intent", phase]


async def test_a_refused_call_is_on_record_with_the_reason_it_was_given(tmp_path: Path) -> None:
    async with running(tmp_path / "w.db") as (journal, database):
        denied, repeated, held = call(PAY), call(PAY), call(PAY)
        await journal.intent(denied, FACTS, DENY, "block")
        await journal.intent(repeated, Facts(effect="in_doubt"), ALLOW, "block", "in_doubt")
        await journal.intent(held, FACTS, ALLOW, "hold", "approval_needed")
        await until(lambda: journal.depth == 0)
        records = {each["call_id"]: each for each in Query(database).list_decisions(Filter()).decisions}
    assert {each["phase"] for each in records.values()} == {"refused"}
    assert records[denied.id]["code"] == "amount_over_limit"
    assert (records[repeated.id]["verdict"], records[repeated.id]["code"]) == ("allow", "in_doubt")
    assert (records[held.id]["action"], records[held.id]["code"]) == ("hold", "approval_needed")


async def test_a_request_that_never_became_a_call_is_noted_and_a_flood_of_them_is_counted(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "w.db") as (journal, database):
        journal.refused("unknown_tool", "mcp", ALICE, "no bank/steal")
        journal.refused("no_credential", "mcp", None, "")
        for _ in range(1000):
            journal.refused("malformed_json", "mcp", None, "x" * 5000)
        await until(lambda: journal.depth == 0)
        found = Query(database).list_decisions(Filter(), limit=2000).decisions
    assert 50 <= len(found) < 100
    assert journal.dropped == 1002 - len(found)
    first = found[-1]
    assert (first["code"], first["agent"], first["detail"]) == ("unknown_tool", "alice-bot", "no bank/steal")
    assert max(len(each.get("detail", "")) for each in found) == 1000


async def test_a_full_queue_refuses_calls_instead_of_growing(tmp_path: Path) -> None:
    async with running(tmp_path / "w.db", queue=100, read_batch_ms=1000) as (journal, _):
        for _ in range(100):
            await journal.intent(call(LOOK), FACTS, ALLOW, "allow")
        assert not journal.writable
        with pytest.raises(JournalError, match="queue full"):
            await journal.intent(call(LOOK), FACTS, ALLOW, "allow")
        with pytest.raises(JournalError, match="journal_unavailable"):
            await journal.intent(call(PAY), FACTS, ALLOW, "allow")
        assert journal.depth == 100
        await until(lambda: journal.writable)
        await carry_out(journal, call(PAY))


async def test_big_arguments_fill_the_queue_by_size(tmp_path: Path) -> None:
    async with running(tmp_path / "w.db", read_batch_ms=1000, payload_days=0) as (journal, _):
        made = call(LOOK, {"text": "x" * 1_000_000})
        with pytest.raises(JournalError):
            for _ in range(80):
                await journal.intent(made, FACTS, ALLOW, "allow")
        assert 60 <= journal.depth <= 70


async def test_one_record_that_cannot_be_stored_does_not_take_others_with_it(tmp_path: Path) -> None:
    async with running(tmp_path / "w.db") as (journal, database):
        odd = Facts(fast={"session": {"broken": object()}})
        good, bad = call(PAY), call(PAY)
        answers = await asyncio.gather(
            journal.intent(good, FACTS, ALLOW, "allow"),
            journal.intent(bad, odd, ALLOW, "allow"),
            return_exceptions=True,
        )
        assert answers[0] is None
        assert isinstance(answers[1], JournalError)
        assert journal.writable
        assert (phases(database, good.id), phases(database, bad.id)) == (["intent"], [])


async def test_a_caller_who_leaves_before_the_send_is_not_in_doubt(tmp_path: Path) -> None:
    async with running(tmp_path / "w.db") as (journal, database):
        made = call(PAY)
        waiting = asyncio.create_task(journal.intent(made, FACTS, ALLOW, "allow"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await until(lambda: journal.depth == 0)
        assert phases(database, made.id) == ["intent", "not_sent"]
    with at(tmp_path / "w.db").open(gateway=True) as database:
        assert recover(database).in_doubt == 0


@sqlite_only
async def test_a_database_locked_by_somebody_refuses_and_recovers(tmp_path: Path) -> None:
    async with running(tmp_path / "w.db") as (journal, database):
        answered, under_way = call(LOOK), call(PAY)
        await journal.intent(under_way, FACTS, ALLOW, "allow")
        other = sqlite3.connect(tmp_path / "w.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await carry_out(journal, answered)
        with pytest.raises(JournalError, match="locked"):
            await journal.intent(call(PAY), FACTS, ALLOW, "allow")
        assert not journal.writable
        with pytest.raises(JournalError):
            await journal.intent(call(LOOK), FACTS, ALLOW, "allow")
        # The call that was under way is told that its outcome is not on disk, and yet it is not forgotten.
        settling = asyncio.create_task(journal.settle(under_way, ALLOW, "allow", ok(), None))
        await asyncio.sleep(0.05)
        other.execute("COMMIT")
        other.close()
        await asyncio.gather(settling, return_exceptions=True)
        await until(lambda: journal.writable and journal.depth == 0)
        assert phases(database, answered.id) == ["result"]
        assert phases(database, under_way.id) == ["intent", "result"]


@sqlite_only
@pytest.mark.slow
async def test_a_lost_file_refuses_calls_and_its_return_heals(tmp_path: Path) -> None:
    path = tmp_path / "data" / "w.db"
    path.parent.mkdir()
    async with running(path) as (journal, database):
        await carry_out(journal, call(PAY))
        answered = call(LOOK)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # makes the writer give up its connection …
        await carry_out(journal, answered)
        with pytest.raises(JournalError, match="locked"):
            await journal.intent(call(PAY), FACTS, ALLOW, "allow")
        other.close()
        path.parent.rename(tmp_path / "gone")  # … and find no file when it wants a new one
        database._opened().dispose()
        await asyncio.sleep(1.2)
        assert not journal.writable
        (tmp_path / "gone").rename(path.parent)
        await until(lambda: journal.writable and journal.depth == 0)
        assert phases(database, answered.id) == ["result"], "it was made and answered, so it is on record"


async def test_a_settle_after_the_end_does_not_wait_for_ever(tmp_path: Path) -> None:
    late = call(PAY)
    async with running(tmp_path / "w.db") as (journal, _):
        await journal.intent(late, FACTS, ALLOW, "allow")
    with pytest.raises(JournalError, match="stopped"):
        await asyncio.wait_for(journal.settle(late, ALLOW, "allow", ok(), None), 2)
    with pytest.raises(JournalError, match="stopped"):
        await asyncio.wait_for(journal.intent(call(PAY), FACTS, ALLOW, "allow"), 2)
    journal.refused("unknown_tool", "mcp", ALICE, "")
    with at(tmp_path / "w.db").open(gateway=True) as database:
        assert [effect.call_id for effect in recover(database).effects] == [late.id]


async def test_an_effect_done_or_in_doubt_is_known_after_a_restart(tmp_path: Path) -> None:
    refund = tool(effect_key="refund:{id}")
    done, doubtful, unsent = (call(refund, {"id": n}, effect_key=f"refund:{n}") for n in (1, 2, 3))
    plain = call(PAY)
    async with running(tmp_path / "w.db") as (journal, _):
        await carry_out(journal, done)
        await carry_out(journal, doubtful, in_doubt())
        await carry_out(journal, unsent, Outcome(status="not_sent", code="upstream_unavailable"))
        await carry_out(journal, plain)
    with at(tmp_path / "w.db").open(gateway=True) as database:
        assert recover(database).in_doubt == 0, "it was in doubt before, and is listed once"
        effects = {effect.key: effect for effect in live_effects(database)}
    assert {key: effect.state for key, effect in effects.items()} == {
        "refund:1": "done", "refund:2": "in_doubt",
    }  # fmt: skip
    assert effects["refund:2"].digest == doubtful.digest


async def test_the_digest_in_doubt_is_that_of_the_request_not_of_its_modified_form(tmp_path: Path) -> None:
    made = call(PAY)
    changed = call(PAY, {"amount_micro_usd": 1})
    changed = msgspec.structs.replace(changed, modified_from=made.digest)
    async with running(tmp_path / "w.db") as (journal, database):
        await journal.intent(changed, FACTS, ALLOW, "modify")
        await journal.settle(changed, ALLOW, "modify", in_doubt(), None)
        assert [effect.digest for effect in live_effects(database)] == [made.digest]


async def test_recovery_reads_only_behind_what_is_known_to_be_settled(tmp_path: Path) -> None:
    async with running(tmp_path / "w.db") as (journal, database):
        for _ in range(5):
            await carry_out(journal, call(PAY))
        open_call = call(PAY)
        await journal.intent(open_call, FACTS, ALLOW, "allow")
        journal._chores()
        for _ in range(5):
            await carry_out(journal, call(PAY))
        journal._chores()
    with at(tmp_path / "w.db").open(gateway=True) as database:
        recovered = recover(database)
        assert recovered.in_doubt == 1
        assert [effect.call_id for effect in recovered.effects] == [open_call.id]
        assert recover(database).in_doubt == 0


steps = st.lists(
    st.tuples(
        st.sampled_from(["read", "write", "templated"]),
        st.sampled_from(["crash", "ok", "tool_error", "in_doubt", "not_sent", "refused"]),
        st.booleans(),  # whether to let the disk catch up
    ),
    max_size=25,
)


@settings(max_examples=15, deadline=None)
@given(steps=steps)
def test_any_sequence_of_calls_survives_a_reopening(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, bool]]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "w.db"
    tools = {"read": LOOK, "write": PAY, "templated": tool(effect_key="k:{n}")}
    made: list[tuple[Call, str]] = []

    async def play() -> None:
        async with running(path, read_batch_ms=1) as (journal, _):
            for number, (kind, end, pause) in enumerate(steps):
                one = call(
                    tools[kind], {"n": number}, effect_key=f"k:{number}" if kind == "templated" else None
                )
                made.append((one, end))
                if end == "refused":
                    await journal.intent(one, FACTS, DENY, "block")
                    continue
                await journal.intent(one, FACTS, ALLOW, "allow")
                if pause:
                    await asyncio.sleep(0.003)
                if end == "crash":
                    continue
                outcome = Outcome(status=end, result_json=b"{}" if end in ("ok", "tool_error") else b"")
                await journal.settle(one, ALLOW, "allow", outcome, None)

    asyncio.run(play())
    with at(path).open(gateway=True) as database:
        recovered = recover(database)
        found = {
            each["call_id"]: each for each in Query(database).list_decisions(Filter(), limit=100).decisions
        }
        lost = {
            each["call_id"]
            for each in Query(database).list_decisions(Filter(in_doubt=True), limit=100).decisions
        }
    assert set(found) == {one.id for one, _ in made}
    writes_in_doubt = {one.id for one, end in made if end in ("in_doubt", "crash") and one.tool.writes}
    assert lost == writes_in_doubt
    assert recovered.in_doubt == sum(end == "crash" and one.tool.writes for one, end in made)
    for one, end in made:
        if end not in ("crash", "refused"):
            assert found[one.id]["status"] == end
            lasting = end == "not_sent" or (end == "in_doubt" and one.tool.writes)
            assert found[one.id]["end_phase"] == (end if lasting else "result")
    assert {effect.key for effect in recovered.effects if effect.state == "done"} == {
        one.effect_key for one, end in made if end == "ok" and one.tool.manifest.effect_key
    }


async def test_what_the_result_policy_said_is_on_record(tmp_path: Path) -> None:
    said = Decision(
        verdict="deny",
        findings=(Finding(code="carries_secret", message="a key in the text", rule="secrets"),),
        obligations=(Obligation(kind="label", value=["secret"], rule="secrets"),),
        revision="bundle-7",
    )
    async with running(tmp_path / "w.db") as (journal, database):
        made = call(PAY)
        await journal.intent(made, FACTS, ALLOW, "allow")
        withheld = Outcome(status="withheld", code="result_withheld", result_json=b'{"key":"hush"}')
        await journal.settle(made, ALLOW, "allow", withheld, said)
        shown = Query(database).show(made.id, key=KEY)
    assert shown is not None
    result = shown.records[1]["result"]
    assert (result["verdict"], result["code"], result["findings"][0]["rule"]) == (
        "deny", "carries_secret", "secrets",
    )  # fmt: skip
    assert shown.payload["result"] == "[redacted]"
    assert orjson.dumps(shown.records).find(b"hush") == -1


def test_the_support_journal_implements_the_port() -> None:
    def takes(_: Port) -> None: ...

    takes(support.journal(Database(Path("unused"))))
