"""Trust on the way of a call: what it refuses is not sent, what it holds waits, and each end is told once."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from gateway import pipeline
from gateway.model import Answer, Finding, Outcome, Refusal
from gateway.ports import Rank
from tests.play import AGENT, Stage, tool, verdict

REFUSED = Rank(refusal=Refusal(code="trust_observe_only", message="only look"), facts={"tier": 0})
GUARDED = Rank(guarded=Finding(code="trust_needs_person", message="not alone"), facts={"tier": 1})


class Trust:
    """Answers as it is told, and notes what it hears."""

    def __init__(self, rank: Rank = Rank()) -> None:  # noqa: B008 - frozen
        self.rank = rank
        self.heard: list[tuple[str, str, Any]] = []

    def ask(self, call, facts):
        return self.rank

    def ended(self, call, action, code, outcome, approval):
        self.heard.append((action, outcome.status if outcome else code, approval.get("id")))


def ran(trust: Trust, mode: str = "enforce", **script: Any) -> tuple[Stage, Answer]:
    stage = Stage(**script)
    parts = msgspec.structs.replace(stage.parts(), trust=trust)
    who = msgspec.structs.replace(AGENT, mode=mode)
    return stage, asyncio.run(pipeline.call(parts, stage.asked(None, who)))


def test_what_trust_refuses_is_decided_recorded_and_not_sent():
    trust = Trust(REFUSED)
    stage, answer = ran(trust, tool=tool("reversible"))
    assert answer.refusal is not None and answer.refusal.code == "trust_observe_only"
    assert "decide" in stage.told and not stage.sent
    assert stage.recorded == [("block", "allow", "trust_observe_only")]
    assert trust.heard == [("block", "trust_observe_only", None)]


def test_a_deny_of_policy_comes_first():
    _, answer = ran(Trust(REFUSED), verdicts=[verdict("deny")])
    assert answer.refusal is not None and answer.refusal.code == "no_rule_allows"


def test_what_it_holds_waits_for_a_person_whatever_policy_says():
    trust = Trust(GUARDED)
    stage, answer = ran(trust, tool=tool("reversible"))
    assert answer.refusal is not None and not stage.sent
    trust = Trust(GUARDED)
    stage, answer = ran(trust, tool=tool("reversible"), held=None)
    assert answer.refusal is None and stage.sent
    assert trust.heard == [("allow", "ok", "a1")]


@pytest.mark.parametrize(
    ("mode", "rank", "counted"), [("observe", REFUSED, "trust"), ("warn", GUARDED, "approval")]
)
def test_in_other_modes_it_only_counts(mode, rank, counted):
    stage, answer = ran(Trust(rank), mode=mode, tool=tool("reversible"))
    assert answer.refusal is None and stage.sent
    assert (counted, mode) in stage.counted


@pytest.mark.parametrize(
    ("script", "heard"),
    [
        ({}, ("allow", "ok", None)),
        ({"fail": "intent"}, ("block", "journal_unavailable", None)),
        ({"verdicts": [verdict("deny")]}, ("block", "no_rule_allows", None)),
        ({"outcome": Outcome(status="in_doubt", code="upstream_lost")}, ("allow", "in_doubt", None)),
    ],
)
def test_each_end_is_told_once(script, heard):
    trust = Trust()
    ran(trust, **script)
    assert trust.heard == [heard]
