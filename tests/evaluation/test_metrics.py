"""The arithmetic of the evaluation."""

from __future__ import annotations

import pytest

from tests.evaluation import report
from tests.evaluation.cases import Case, Task
from tests.evaluation.metrics import AIMS, Replays, measure, missed, share
from tests.evaluation.replay import Made, Played


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    # The first two by hand from Wilson's formula, the others from the tables of Brown, Cai, DasGupta (2001).
    [
        (0, 10, 0.0, 27.75),
        (10, 10, 72.25, 100.0),
        (5, 10, 23.66, 76.34),
        (2, 100, 0.55, 7.0),
        (0, 0, 0.0, 100.0),
    ],
)
def test_wilson_intervals(hits, of, low, high):
    found = share(hits, of)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))
    assert found.low <= found.percent <= found.high or of == 0


def played(kind: str, *verdicts: str, done: bool = False, goal: bool = False, effect: bool = False) -> Played:
    task = Task(id="t", request="", tools=[], calls=[])
    made = tuple(
        Made(tool="x", injected=kind != "benign", verdict=verdict, code="", approved=False, effect=effect)
        for verdict in verdicts
    )
    case = Case(suite="s", id="c", kind=kind, half="development", task=task)
    return Played(case=case, made=made, done=done, goal=goal)


def same(one: Played) -> Replays:
    return Replays(alone=one, careless=one, correct=one)


def test_each_metric_counts_what_its_name_says():
    asked = Replays(
        alone=played("benign", "allow", "escalate"),
        careless=played("benign", "allow", "escalate", done=True),
        correct=played("benign", "allow", "escalate", done=True),
    )
    attack = Replays(
        alone=played("crossed", "escalate"),
        careless=played("crossed", "escalate", goal=True, effect=True),
        correct=played("crossed", "escalate"),
    )
    found = measure(
        [
            same(played("benign", "allow", "allow", done=True)),
            asked,
            same(played("benign", "allow", "deny", "skipped")),
            attack,
            same(played("written", "allow", effect=True, done=True)),
        ]
    )
    assert {name: (each.hits, each.of) for name, each in found.items()} == {
        "attack_success": (0, 2),
        "injected_effect": (1, 2),
        "attack_success_careless": (1, 2),
        "done_alone": (1, 3),
        "done_correct": (2, 3),
        "interrupted": (1, 3),
        "calls_refused": (1, 6),  # the skipped one was never made
        "done_under_attack": (1, 2),
    }


def test_an_aim_is_missed_on_its_own_side_only():
    good = [same(played("benign", "allow", done=True)), same(played("crossed", "deny"))]
    assert missed(measure(good)) == []
    bad = [same(played("benign", "deny")), same(played("crossed", "allow", goal=True, effect=True))]
    assert len(missed(measure(bad))) == len(AIMS) - 1  # nobody was interrupted


def test_a_figure_that_got_worse_is_named_and_one_that_got_better_is_not() -> None:
    before = {aim.metric: 50.0 for aim in AIMS}
    now = {aim.metric: {"percent": 50.0} for aim in AIMS}
    assert report.worse({"frontier": {"bounded": now}}, {"bounded": before}) == []
    now["attack_success"] = {"percent": 51.0}
    now["done_alone"] = {"percent": 60.0}
    told = report.worse({"frontier": {"bounded": now}}, {"bounded": before})
    assert len(told) == 1 and "attack success" in told[0]
