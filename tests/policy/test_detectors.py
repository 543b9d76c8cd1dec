"""Detectors are silent on ordinary work and catch what they are for; known misses are counted too."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.policy.detectors import CAUGHT, Detector, evaluate, sizes

RECALL = {
    "shell": 0.94, "sql": 0.97, "path": 0.96, "secret": 0.95, "personal": 1.0, "injection": 0.90,
    "secret in a result": 0.95,
}  # fmt: skip
ALARMS = {"sql": 1, "secret": 1}  # known: SQL in a quoted text, and code that names a key's place


@pytest.fixture(scope="module")
def figures() -> Mapping[str, Detector]:
    return evaluate()


def test_the_corpus_is_large_enough_to_say_something() -> None:
    benign, attacks = sizes()
    assert benign >= 150 and attacks >= 150


@pytest.mark.parametrize("kind", CAUGHT)
def test_attacks_are_caught(kind: str, figures: Mapping[str, Detector]) -> None:
    assert figures[kind].recall >= RECALL[kind], figures[kind].missed


@pytest.mark.parametrize("kind", CAUGHT)
def test_ordinary_work_is_let_through(kind: str, figures: Mapping[str, Detector]) -> None:
    assert len(figures[kind].alarms) <= ALARMS.get(kind, 0), figures[kind].alarms
