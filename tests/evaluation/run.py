"""Replay every case with one configuration of the gateway."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from tests.evaluation import cases
from tests.evaluation.cases import Case, Suite
from tests.evaluation.configurations import Configuration
from tests.evaluation.gateway import AGENT, REVIEWED, Broken, Enforced, Reviewed, Running, running
from tests.evaluation.metrics import Replays
from tests.evaluation.replay import Played, Way, play


class Result(msgspec.Struct, frozen=True, kw_only=True):
    configuration: Configuration
    replays: list[Replays]


def run(
    suites: list[Suite],
    configuration: Configuration,
    folder: Path,
    said: Callable[[str], Any] = lambda _: None,
) -> Result:
    """Start a gateway, replay everything, stop it. Raises ``Broken`` when it measured nothing."""
    with running(folder, suites, configuration) as gateway:
        found = []
        for suite in suites:
            said(f"{configuration.name}: {suite.name}")
            found += [replay(gateway, case) for case in (*suite.benign, *suite.written, *suite.crossed)]
    return Result(configuration=configuration, replays=found)


def replay(gateway: Running, case: Case) -> Replays:
    """Alone first; with a reviewer only where somebody was to be asked: otherwise nothing would differ."""
    alone = _once(gateway, case, AGENT, lambda session: Enforced(gateway, case.suite, session))
    if not alone.escalated:
        return Replays(alone=alone, careless=alone, correct=alone)
    reviewed = [
        _once(
            gateway, case, REVIEWED,
            lambda session, careless=careless: Reviewed(gateway, case.suite, session, careless=careless),
        )
        for careless in (True, False)
    ]  # fmt: skip
    for each in reviewed:
        _same_start(alone, each)
    return Replays(alone=alone, careless=reviewed[0], correct=reviewed[1])


def _once(gateway: Running, case: Case, agent: str, way: Callable[[str], Way]) -> Played:
    world = gateway.worlds[case.suite]
    world.reset(lambda data: cases.plant(data, case.plant))
    return play(case, world, way(gateway.open_session(agent, case.suite, case.task)))


def _same_start(alone: Played, reviewed: Played) -> None:
    """Until somebody is asked a reviewer changes nothing; otherwise the simulation is not one."""
    for left, right in zip(alone.made, reviewed.made, strict=False):
        if (left.tool, left.verdict) != (right.tool, right.verdict):
            raise Broken(
                f"{alone.case.suite}/{alone.case.id}: {left.tool} was {left.verdict} ({left.code}) enforced, "
                f"{right.verdict} ({right.code}) observed"
            )
        if left.verdict == "escalate":
            return
