"""Asking both engines of every pack, and counting what was covered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, given, settings

from tests.policy.parity.engines import Difference, Pair
from tests.policy.parity.inputs import Input, inputs, words

_WHOLE = "strict"


class Compared:
    def __init__(self) -> None:
        self.inputs = 0
        self.decisions = 0
        self.differences: list[Difference] = []
        self.codes: Counter[str] = Counter()  # of the findings of calls; "" when nothing speaks

    def ask(self, both: Sequence[Pair], asked: Input) -> None:
        self.inputs += 1
        for pair in both:
            phases, differences = pair.compare(asked)
            self.decisions += len(phases)
            self.differences += differences
            self.codes.update(finding.code for finding in phases["call"]["findings"])


def generated(both: Sequence[Pair], count: int, compared: Compared) -> None:
    """Every generated input is asked, also after one that differs: a report names more than the first.

    The strict pack has every module, so each input is asked of it, and of one other pack in turn: these leave
    modules out and have other data.
    """
    whole = [pair for pair in both if pair.name == _WHOLE]
    parts = [pair for pair in both if pair.name != _WHOLE]

    @settings(
        max_examples=count, database=None, deadline=None, phases=[Phase.generate], derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(inputs(words(pair.bundle for pair in both)))
    def ask(asked: Input) -> None:
        part = parts[compared.inputs % len(parts)]
        compared.ask([*whole, part], asked)

    ask()
