"""What the admin API says of decisions is what the journal holds."""

from __future__ import annotations

import msgspec
import pytest

from gateway.errors import JournalError
from gateway.journal.query import Query
from gateway.overview import RecordedDecisions
from gateway.surfaces.admin import models
from gateway.surfaces.admin.deps import DecisionFilter
from tests.journal.support import ALICE, DENY, FACTS, LOOK, PAY, call, carry_out, in_doubt, running

MINE = DecisionFilter(tenant="default")


async def test_each_call_is_shown_once_with_what_became_of_it(tmp_path):
    async with running(tmp_path / "w.db") as (journal, database):
        paid, denied, lost = call(PAY), call(PAY), call(PAY)
        await carry_out(journal, paid)
        await journal.intent(denied, FACTS, DENY, "block")
        await carry_out(journal, lost, in_doubt())
        seen = RecordedDecisions(Query(database)).list(MINE, 50, None)
        shown = [models.Decision.model_validate(item) for item in seen.items]
    assert [each.call_id for each in shown] == [lost.id, denied.id, paid.id] and seen.cursor is None
    assert [(each.verdict, each.action, each.status) for each in shown] == [
        ("allow", "allow", "in_doubt"),
        ("deny", "block", None),
        ("allow", "allow", "ok"),
    ]
    assert shown[0].outcome_code == "upstream_timeout" and shown[1].code == "amount_over_limit"
    assert shown[2].agent == "alice-bot" and shown[2].mode == "enforce" and shown[2].surface == "mcp"
    assert abs(shown[2].at.timestamp() - paid.received_ns / 1e9) < 60


@pytest.mark.parametrize("made", [PAY, LOOK], ids=["write", "read"])
async def test_one_call_is_shown_with_its_whole_history_and_without_its_arguments(tmp_path, made):
    async with running(tmp_path / "w.db") as (journal, database):
        asked = call(made, {"to": "CANARY"})
        await carry_out(journal, asked)
        await journal.stop()
        found = RecordedDecisions(Query(database)).show("default", asked.id)
    shown = models.DecisionDetail.model_validate(found)
    assert shown.digest == asked.digest and shown.status == "ok" and shown.end_phase == "result"
    assert shown.history[-1].upstream_ms == 1.2 and shown.history[-1].status == "ok"
    assert shown.in_force["policy_revision"] == "bundle-7" and shown.in_force["controls"]
    assert shown.agent_snapshot["owner"] == "alice" and shown.findings[0]["rule"] == "payments.limit"
    assert "CANARY" not in shown.model_dump_json()


async def test_another_tenant_sees_nothing(tmp_path):
    async with running(tmp_path / "w.db") as (journal, database):
        asked = call(PAY, principal=msgspec.structs.replace(ALICE, tenant="theirs"))
        await carry_out(journal, asked)
        decisions = RecordedDecisions(Query(database))
        assert decisions.list(MINE, 50, None).items == [] and decisions.show("default", asked.id) is None
        assert decisions.show("theirs", asked.id) is not None


async def test_pages_and_filters_are_the_journals(tmp_path):
    async with running(tmp_path / "w.db") as (journal, database):
        for _ in range(5):
            await carry_out(journal, call(PAY))
        await carry_out(journal, call(PAY), in_doubt())
        decisions = RecordedDecisions(Query(database))
        first = decisions.list(MINE, 4, None)
        rest = decisions.list(MINE, 4, first.cursor)
        assert (len(first.items), len(rest.items), rest.cursor) == (4, 2, None)
        doubtful = decisions.list(msgspec.structs.replace(MINE, in_doubt=True), 50, None)
        assert [item["status"] for item in doubtful.items] == ["in_doubt"]
        assert decisions.list(msgspec.structs.replace(MINE, tool="other/"), 50, None).items == []
        for foreign in ("x", "-1", str(1 << 70)):
            with pytest.raises(ValueError):
                decisions.list(MINE, 4, foreign)


async def test_a_database_that_cannot_be_read_is_said_so(tmp_path):
    async with running(tmp_path / "w.db") as (_, database):
        with database.writing() as connection:
            connection.exec_driver_sql("ALTER TABLE records RENAME TO gone")
        with pytest.raises(JournalError):
            RecordedDecisions(Query(database)).list(MINE, 4, None)
        with database.writing() as connection:
            connection.exec_driver_sql("ALTER TABLE gone RENAME TO records")
