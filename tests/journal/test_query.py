"""Reading the journal, resolving what is in doubt, and erasing payloads."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.journal.display import REDACTED, redact
from gateway.journal.entries import Encoder, End, Intent
from gateway.journal.query import Filter, Query
from gateway.journal.recovery import live_effects
from gateway.journal.resolution import Erase, NotInDoubt, erase, resolve
from gateway.journal.retention import Retention
from gateway.model import Decision, Obligation, Outcome
from gateway.storage import control
from gateway.storage.crypto import StorageKey
from tests.journal.support import (
    ALICE,
    ALLOW,
    CONTROLS,
    DENY,
    FACTS,
    KEY,
    LOOK,
    PAY,
    REVISIONS,
    call,
    carry_out,
    in_doubt,
    ok,
    running,
    tool,
)
from tests.storage.at import at, sqlite_only

BOB = msgspec.structs.replace(ALICE, agent="bob-bot", subject="mallory@example.com")


async def test_decisions_are_listed_newest_first_a_page_at_a_time(tmp_path: Path) -> None:
    made = [call(PAY) for _ in range(5)]
    async with running(tmp_path / "w.db") as (journal, database):
        for one in made:
            await carry_out(journal, one)
        query = Query(database)
        seen, cursor = [], None
        while True:
            page = query.list_decisions(Filter(), limit=2, cursor=cursor)
            seen += [each["call_id"] for each in page.decisions]
            assert all(each["status"] == "ok" for each in page.decisions)
            if (cursor := page.cursor) is None:
                break
    assert seen == [one.id for one in reversed(made)]


async def test_each_filter_narrows_the_list(tmp_path: Path) -> None:
    paid, looked, denied = call(PAY), call(LOOK, principal=BOB, session="s-2"), call(PAY)
    path = tmp_path / "w.db"
    async with running(path) as (journal, _):
        await carry_out(journal, paid)
        await carry_out(journal, looked)
        middle = time.time_ns()
        time.sleep(0.003)  # the next call id is of a later millisecond
        denied = call(PAY)
        await journal.intent(denied, FACTS, DENY, "block")

    def ids(**narrow: Any) -> set[str]:
        with at(path).open(read_only=True) as database:
            found = Query(database).list_decisions(Filter(**narrow)).decisions
            assert sum(Query(database).count(Filter(**narrow)).values()) == len(found)
            return {each["call_id"] for each in found}

    assert ids() == {paid.id, looked.id, denied.id}
    assert ids(agent="bob-bot") == {looked.id}
    assert ids(tool="bank/look") == {looked.id}
    assert ids(tool="bank/") == {paid.id, looked.id, denied.id}
    assert ids(tool="b%k/") == set()
    assert ids(verdict="deny") == ids(action="block") == ids(code="amount_over_limit") == {denied.id}
    assert ids(session="s-2") == {looked.id}
    assert ids(call=paid.id) == {paid.id}
    assert ids(tenant="other") == set()
    assert ids(since_ns=middle) == {denied.id}
    assert ids(until_ns=middle) == {paid.id, looked.id}
    assert ids(in_doubt=True) == set()


async def test_tail_follows_every_record(tmp_path: Path) -> None:
    async with running(tmp_path / "w.db") as (journal, database):
        query = Query(database)
        await carry_out(journal, call(PAY))
        start = query.last()
        made = call(PAY)
        await carry_out(journal, made)
        assert [(each["call_id"], each["phase"], each["target"]) for each in query.tail(start)] == [
            (made.id, "intent", "bank/pay"),
            (made.id, "result", "bank/pay"),
        ]
        assert query.tail(query.last()) == []


@sqlite_only
async def test_payloads_are_unreadable_without_the_key_and_a_wrong_key_is_named(tmp_path: Path) -> None:
    made = call(PAY, {"to": "bob", "iban": "DE02120300000000202051"})
    path = tmp_path / "w.db"
    async with running(path) as (journal, _):
        await carry_out(journal, made, ok(b'{"receipt":"R-4711-visible"}'))
    with at(path).open() as database:
        assert database.checkpoint()
        content = path.read_bytes()
        assert made.id.encode() in content
        assert b"DE02120300000000202051" not in content
        assert b"R-4711-visible" not in content
        query = Query(database)
        for shown in (query.show(made.id), query.show(made.id, key=StorageKey(bytes(range(1, 33))))):
            assert shown is not None
            assert shown.payload == {}
        assert shown.payload_state.startswith(f"sealed with storage key {KEY.fingerprint}, and this is")
        revealed = query.show(made.id, key=KEY, reveal=True)
        assert revealed is not None
        assert revealed.payload == {"arguments": dict(made.args), "result": {"receipt": "R-4711-visible"}}


@pytest.mark.parametrize("kind", ["read", "irreversible"])
async def test_what_the_manifest_calls_sensitive_is_redacted_unless_revealed(
    tmp_path: Path, kind: Any
) -> None:
    made = call(tool(kind, sensitive=("/card/number", "/missing")), {"card": {"number": "4111", "cvc": 1}})
    async with running(tmp_path / "w.db") as (journal, _):
        await carry_out(journal, made)
    with at(tmp_path / "w.db").open(read_only=True) as database:
        shown = Query(database).show(made.id, key=KEY)
        assert shown is not None
        assert shown.payload["arguments"] == {"card": {"number": REDACTED, "cvc": 1}}
        assert shown.payload["result"]
        assert shown.payload_state == "redacted"


async def test_a_result_that_policy_redacted_is_not_shown_from_the_journal_either(tmp_path: Path) -> None:
    redacts = Obligation(kind="redact", value="/key", rule="secrets")
    said = Decision(verdict="allow", findings=(), obligations=(redacts,))
    read, write = call(LOOK), call(PAY)
    async with running(tmp_path / "w.db") as (journal, _):
        for made in (read, write):
            await journal.intent(made, FACTS, ALLOW, "allow")
            await journal.settle(made, ALLOW, "allow", ok(b'{"key":"hush"}'), said)
    with at(tmp_path / "w.db").open(read_only=True) as database:
        for made in (read, write):
            shown = Query(database).show(made.id, key=KEY)
            assert shown is not None
            assert shown.payload["result"] == REDACTED
            revealed = Query(database).show(made.id, key=KEY, reveal=True)
            assert revealed is not None
            assert revealed.payload["result"] == {"key": "hush"}


async def test_with_no_days_of_payloads_none_is_kept(tmp_path: Path) -> None:
    made = call(PAY)
    async with running(tmp_path / "w.db", payload_days=0) as (journal, database):
        await carry_out(journal, made)
        shown = Query(database).show(made.id, key=KEY)
    assert shown is not None
    assert (shown.payload, shown.payload_state) == ({}, "not kept")
    assert shown.records[0]["args_mac"]


@sqlite_only
async def test_an_erased_payload_is_gone_from_the_bytes_of_the_files_and_its_record_stays(
    tmp_path: Path,
) -> None:
    kept, erased = call(PAY, {"n": 1}), call(PAY, {"n": 2}, principal=BOB)
    path = tmp_path / "w.db"
    async with running(path) as (journal, database):
        for made in (kept, erased):
            await carry_out(journal, made, ok(b'"' + b"r" * 9000 + b'"'))
        with database.reading() as connection:
            query = (
                "SELECT p.ciphertext FROM payloads p JOIN records r ON r.payload = p.id WHERE r.call_id = ?"
            )
            gone = [row[0] for row in connection.exec_driver_sql(query, (erased.id,))]
            stays = [row[0] for row in connection.exec_driver_sql(query, (kept.id,))]
        done = erase(database, Erase(subject="mallory@example.com"), by="ann", note="request 12")
        assert (done.calls, done.payloads, done.complete) == (1, 2, True)
        content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        # Long ciphertexts lie on several pages, so look for pieces of them.
        assert all(piece not in content for each in gone for piece in _pieces(each))
        assert all(any(piece in content for piece in _pieces(each)) for each in stays)
        shown = Query(database).show(erased.id, key=KEY, reveal=True)
        assert shown is not None
        assert [each["phase"] for each in shown.records] == ["intent", "result", "erased"]
        assert (shown.records[2]["operator"], shown.records[2]["detail"]) == ("ann", "request 12")
        assert shown.payload_state == "not kept"
        assert shown.records[0]["digest"] == erased.digest
        [listed] = Query(database).list_decisions(Filter(agent="bob-bot")).decisions
        assert listed["status"] == "ok", "an erasure is not an outcome"
        assert erase(database, Erase(agent="bob-bot"), by="ann").calls == 0, "there is nothing left"
        assert erase(database, Erase(call=kept.id), by="ann").payloads == 2


def _pieces(ciphertext: bytes) -> list[bytes]:
    return [ciphertext[start : start + 24] for start in range(0, len(ciphertext) - 24, 97)]


async def test_erasing_needs_to_be_told_whose(tmp_path: Path) -> None:
    with at(tmp_path / "w.db").open() as database, pytest.raises(ValueError, match="whose"):
        erase(database, Erase(), by="ann")


async def test_old_payloads_are_deleted_and_young_ones_stay(tmp_path: Path) -> None:
    async with running(tmp_path / "w.db", payload_days=1) as (journal, database):
        for _ in range(3):
            await carry_out(journal, call(PAY))
        assert not Retention(database, 1).step()
        with database.writing() as connection:
            connection.exec_driver_sql(
                "UPDATE payloads SET id = id - 86400000000000 WHERE id IN (SELECT id FROM payloads LIMIT 2)"
            )
        assert not Retention(database, 1).step()
        with database.reading() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM payloads").scalar() == 4
            assert connection.exec_driver_sql("SELECT count(*) FROM records").scalar() == 6


@pytest.mark.parametrize(("became", "state"), [("executed", "done"), ("not_executed", None)])
async def test_a_person_resolves_a_call_in_doubt_once_and_the_gateway_can_see_it(
    tmp_path: Path, became: Any, state: str | None
) -> None:
    made = call(tool(effect_key="refund:{id}"), effect_key="refund:7")
    async with running(tmp_path / "w.db") as (journal, database):
        await carry_out(journal, made, in_doubt())
        [listed] = Query(database).list_decisions(Filter(in_doubt=True)).decisions
        assert (listed["call_id"], listed["status"], listed["end_phase"]) == (made.id, "in_doubt", "in_doubt")
        assert [effect.state for effect in live_effects(database)] == ["in_doubt"]
        with database.reading() as connection:
            before = control.epochs(connection).get(control.RESOLUTIONS, 0)
        resolve(database, made.id, became, by="ann", note="seen in the ledger")
        with database.reading() as connection:
            assert control.epochs(connection)[control.RESOLUTIONS] == before + 1
        assert Query(database).list_decisions(Filter(in_doubt=True)).decisions == []
        assert [effect.state for effect in live_effects(database)] == ([state] if state else [])
        [listed] = Query(database).list_decisions(Filter()).decisions
        assert (listed["status"], listed["end_phase"]) == (became, "reconciled")
        assert listed["end"]["operator"] == "ann"
        with pytest.raises(NotInDoubt, match="resolved by ann"):
            resolve(database, made.id, "executed", by="bob")


async def test_only_a_call_in_doubt_can_be_resolved(tmp_path: Path) -> None:
    made = call(PAY)
    async with running(tmp_path / "w.db") as (journal, database):
        await carry_out(journal, made)
        with pytest.raises(NotInDoubt, match="never in doubt"):
            resolve(database, made.id, "executed", by="ann")
        with pytest.raises(NotInDoubt, match="there is no call"):
            resolve(database, "unknown", "executed", by="ann")


@pytest.mark.slow
def test_an_export_of_fifty_thousand_records_needs_bounded_memory(tmp_path: Path) -> None:
    rows, batch = 50_000, 5_000
    with at(tmp_path / "w.db").open(gateway=True) as database:
        encoder = Encoder(KEY, CONTROLS, keep_payloads=False)
        for _ in range(rows // batch):
            entries: list[Intent | End] = []
            for _ in range(batch):
                made = call(LOOK)
                entries.append(Intent(time.time_ns(), made, FACTS, ALLOW, "allow", "", REVISIONS))
                entries.append(End(time.time_ns(), made, "allow", ok(), None, REVISIONS))
            with database.writing() as connection:
                for statement, values in encoder.rows(entries).statements():
                    if values:
                        connection.exec_driver_sql(database.statement(statement), values)
        tracemalloc.start()
        try:
            lines = size = 0
            for line in Query(database).export():
                lines += 1
                size += len(line)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert lines == rows
    assert size > 40_000_000
    assert peak < 8_000_000
    record = orjson.loads(line)
    assert record["tool_snapshot"]["manifest"]["risk"] == "read"
    assert record["in_force"]["policy_revision"] == "bundle-7"


async def test_an_export_with_a_filter_has_a_line_a_decision_with_its_outcome(tmp_path: Path) -> None:
    made = call(PAY)
    async with running(tmp_path / "w.db") as (journal, database):
        await carry_out(journal, made)
        await carry_out(journal, call(LOOK), Outcome(status="tool_error"))
        [line] = Query(database).export(Filter(tool="bank/pay"))
    record = orjson.loads(line)
    assert (record["call_id"], record["end_phase"], record["status"]) == (made.id, "result", "ok")


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=3), children, max_size=4)
    ),
    max_leaves=12,
)


@given(values, st.lists(st.text(max_size=3), min_size=1, max_size=4))
def test_redaction_takes_out_exactly_what_a_pointer_names(value: Any, path: list[str]) -> None:
    pointer = "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)
    before = orjson.dumps(value) if _small(value) else None
    result = redact(value, [pointer])
    if before is not None:
        assert orjson.dumps(value) == before, "the original is not touched"
    assert _at(result, path) == (REDACTED if _at(value, path) is not _ABSENT else _ABSENT)


_ABSENT = object()


def _small(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except (orjson.JSONEncodeError, TypeError):
        return False
    return True


def _at(value: Any, path: list[str]) -> Any:
    for part in path:
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return _ABSENT
    return value
