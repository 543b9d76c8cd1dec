"""The state machines behind the HTTP front, driven in every order."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import pipeline
from gateway.config import LimitsConfig
from gateway.errors import Overloaded, Refused
from gateway.model import Manifest, Outcome
from gateway.surfaces.http.deps import Past
from gateway.surfaces.http.late import worth
from gateway.surfaces.http.opened import OpenDecisions
from tests.play import AGENT, Stage, tool

STATUSES = ("ok", "tool_error", "failed", "not_sent", "in_doubt")


class Scene:
    """Open decisions over parts that write down what they were asked."""

    def __init__(self, deadline_s: float = 60, **limits: int) -> None:
        manifest = Manifest(risk="irreversible", deadline_s=deadline_s)
        self.stage = Stage(tool=tool(manifest=manifest, elsewhere=True))
        self.parts = self.stage.parts()
        self.count = 0
        self.opened = OpenDecisions(lambda: self.parts, lambda: LimitsConfig(**limits), self._counted)

    def _counted(self, count: int) -> None:
        self.count = count

    async def decide(self) -> str:
        self.opened.take(AGENT)
        cleared = await pipeline.decide(self.parts, self.stage.asked())
        assert isinstance(cleared, pipeline.Cleared)
        self.opened.open(cleared)
        return cleared.call.id

    def outcomes(self) -> list[str]:
        return [told.partition(" ")[2] for told in self.stage.told if told.startswith("settled ")]


@settings(deadline=None, max_examples=60)
@given(
    reports=st.lists(st.tuples(st.sampled_from(STATUSES), st.booleans()), max_size=6),
    lapse_at=st.integers(0, 6),
)
def test_whatever_is_reported_and_whenever_time_runs_out_there_is_one_outcome(reports, lapse_at):
    async def play() -> Scene:
        scene = Scene()
        decision_id = await scene.decide()
        answers = set()
        for number, (status, twice) in enumerate(reports):
            if number == lapse_at:
                scene.opened._lapse(decision_id)
            for _ in range(1 + twice):
                try:
                    got = await scene.opened.settle(decision_id, status.encode(), Outcome(status=status))
                except Refused as refused:
                    assert refused.code == "already_settled"
                else:
                    answers.add(None if got is None else got[0].outcome.status)
        scene.opened._lapse(decision_id)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(answers) <= 1, "two stories were believed"
        return scene

    scene = asyncio.run(play())
    assert len(scene.outcomes()) == 1
    assert scene.count == 0 and scene.opened._total == 0 and not scene.opened._taken


async def test_nobody_reports_and_the_deadline_makes_it_doubtful():
    scene = Scene(deadline_s=0.05)
    decision_id = await scene.decide()
    assert scene.opened.is_open(decision_id) and scene.count == 1
    await asyncio.sleep(0.2)
    assert scene.outcomes() == ["in_doubt"] and not scene.opened.is_open(decision_id)
    assert await scene.opened.settle(decision_id, b"x", Outcome(status="ok")) is None


async def test_after_it_was_closed_no_deadline_fires():
    scene = Scene(deadline_s=0.05)
    await scene.decide()
    scene.opened.close()
    await asyncio.sleep(0.1)
    assert scene.outcomes() == []


async def test_a_decision_is_found_by_its_owner_only():
    scene = Scene()
    decision_id = await scene.decide()
    assert scene.opened.find(decision_id, AGENT) is not None
    for change in ({"tenant": "t2"}, {"agent": "b2"}, {"subject": "u"}):
        assert scene.opened.find(decision_id, msgspec.structs.replace(AGENT, **change)) is None
    rotated = msgspec.structs.replace(AGENT, credential="key2")
    assert scene.opened.find(decision_id, rotated) is not None


def test_places_run_out_and_come_back():
    scene = Scene(open_decisions_per_agent=2, open_decisions=3)
    for _ in range(2):
        scene.opened.take(AGENT)
    with pytest.raises(Overloaded):
        scene.opened.take(AGENT)
    scene.opened.give_back(AGENT)
    scene.opened.take(AGENT)


# ------------------------------------------------------------------------------------ reports too late

ENDS = [("", ""), ("not_sent", "not_sent"), ("in_doubt", "in_doubt"), ("reconciled", "executed"),
        ("reconciled", "not_executed"), *(("result", status) for status in
        ("ok", "withheld", "tool_error", "failed", "in_doubt", "unobserved"))]  # fmt: skip
REPORTS = ("ok", "tool_error", "failed", "not_sent", "unknown")


def past(end: tuple[str, str], **changes) -> Past:
    base = {
        "tenant": "t",
        "agent": "bot",
        "subject": None,
        "decided": True,
        "writes": True,
        "refused": False,
    }
    return Past(**{**base, "end": end[0], "status": end[1], "item": {}, **changes})


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("report", REPORTS)
def test_a_late_report_never_frees_an_effect_and_never_changes_what_is_known(end, report):
    said = worth(past(end), AGENT, report)
    if said == "confirms":
        assert end == ("in_doubt", "in_doubt") and report == "ok"
    elif said == "repeated":
        known = {"ok": {"ok", "withheld", "executed"}, "tool_error": {"tool_error", "withheld"},
                 "failed": {"failed"}, "not_sent": {"not_sent"}, "unknown": {"in_doubt"}}  # fmt: skip
        assert end[1] in known[report]
    else:
        assert said in ("already_settled", "decision_lapsed")


@pytest.mark.parametrize(
    "changes", [{"tenant": "t2"}, {"agent": "b"}, {"subject": "u"}, {"decided": False}, {"refused": True}]
)
def test_what_is_not_the_callers_decision_does_not_exist(changes):
    assert worth(past(("in_doubt", "in_doubt"), **changes), AGENT, "ok") == "unknown_decision"
    assert worth(None, AGENT, "ok") == "unknown_decision"
