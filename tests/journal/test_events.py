"""Recorded calls as detectors see them again: the same events, and nothing that says nothing of the agent."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from gateway.journal.events import delegated_since, recorded_events
from gateway.model import Decision, Finding
from tests.journal.support import ALICE, DENY, FACTS, LOOK, PAY, SystemClock, call, carry_out, running

DELEGATED = msgspec.structs.replace(ALICE, chain=("boss-bot", "alice-bot"))
ESCALATED = Decision(verdict="escalate", findings=(Finding(code="amount_over_limit", message="a person"),))


async def test_refusals_are_events_and_what_waits_for_people_is_none(tmp_path: Path) -> None:
    async with running(tmp_path / "w.db") as (journal, database):
        done, refused, waits, unearned = call(PAY), call(PAY), call(PAY), call(PAY)
        await carry_out(journal, done)
        await journal.intent(refused, FACTS, DENY, "block", "amount_over_limit")
        # Nobody can be asked, so it is blocked, with the code of the policy.
        await journal.intent(waits, FACTS, ESCALATED, "block", "amount_over_limit")
        await journal.intent(unearned, FACTS, DENY, "block", "trust_budget")
        await journal.stop()
        found = {event.call_id: event.what for event in recorded_events(database)}
    assert found == {done.id: "ok", refused.id: "denied"}


async def test_after_months_without_a_delegation_only_the_last_minute_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was saved last is long ago; nothing that is older than a minute can be unsaved."""
    old, new = call(PAY, principal=DELEGATED), call(PAY, principal=DELEGATED)
    async with running(tmp_path / "w.db") as (journal, database):
        with monkeypatch.context() as then:
            then.setattr(SystemClock, "now_ns", lambda clock: time.time_ns() - 100_000_000_000)
            await carry_out(journal, old)
        await carry_out(journal, new)
        await journal.stop()
        assert {event.call_id for event in delegated_since(database, 1)} == {new.id}


async def test_delegated_calls_that_ended_since_are_found_and_no_others(tmp_path: Path) -> None:
    async with running(tmp_path / "w.db") as (journal, database):
        early, late = call(PAY, principal=DELEGATED), call(PAY, principal=DELEGATED)
        read, own = call(LOOK, principal=DELEGATED), call(PAY)
        await carry_out(journal, early)
        since = time.time_ns()
        for each in (late, read, own):
            await carry_out(journal, each)
        await journal.stop()
        found = list(delegated_since(database, since))
        everything = {event.call_id for event in delegated_since(database, None)}
    assert {event.call_id for event in found} == {late.id, read.id}
    assert {(event.tree, event.depth, event.what) for event in found} == {("boss-bot", 2, "ok")}
    assert everything == {early.id, late.id, read.id}
