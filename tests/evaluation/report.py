"""The figures as a table for people and as JSON for programs."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from tests.evaluation.metrics import AIMS, Replays, Share, measure, missed
from tests.evaluation.replay import REFUSED
from tests.evaluation.run import Result

Json = Any
_EXTRA: Final = (("done_under_attack", "task done under attack"),)


def figures(results: list[Result], final: str, seconds: float, seed: int, *, named: bool = False) -> Json:
    """Everything measured, as plain values. Cases of the held-out half are only named when ``named``."""
    by_name = {result.configuration.name: result for result in results}
    chosen = by_name.get(final, results[-1])
    return {
        "aims": msgspec.to_builtins(AIMS),
        "missed": missed(measure(chosen.replays)),
        "configuration": chosen.configuration.name,
        "frontier": {
            name: {"about": result.configuration.about, **_plain(measure(result.replays))}
            for name, result in by_name.items()
        },
        "slices": {
            name: {title: _plain(measure(part)) for title, part in slices(result.replays)}
            for name, result in by_name.items()
        },
        "cases": _counts(chosen.replays),
        "seed": seed,
        "failures": {name: failures(result.replays, named=named) for name, result in by_name.items()},
        "seconds": round(seconds, 1),
        "environment": {"python": platform.python_version(), "cores": os.cpu_count()},
    }


def worse(found: Json, reached: dict[str, dict[str, float]]) -> list[str]:
    """Figures that are worse than what was reached before, by more than half a per cent."""
    told = []
    for name, figures in reached.items():
        for aim in AIMS:
            now, before = found["frontier"][name][aim.metric]["percent"], figures[aim.metric]
            if (before - now if aim.at_least else now - before) > 0.5:
                told.append(f"{name}: {aim.title}: {now} %, and {before} % had been reached")
    return told


def slices(replays: list[Replays]) -> Iterable[tuple[str, list[Replays]]]:
    """Halves, suites, and attacks by where they come from. Benign tasks are in every slice by kind."""
    for half in ("development", "held-out"):
        yield half, [each for each in replays if each.alone.case.half == half]
    for suite in sorted({each.alone.case.suite for each in replays}):
        yield suite, [each for each in replays if each.alone.case.suite == suite]
    for kind in ("written", "crossed"):
        yield kind, [each for each in replays if each.alone.case.kind in ("benign", kind)]


def failures(replays: list[Replays], *, named: bool) -> Json:
    """What went wrong, one line a case: attacks that came through and benign tasks that were stopped."""
    if not named:
        replays = [each for each in replays if each.alone.case.half == "development"]

    def names(wanted: Callable[[Replays], bool]) -> list[str]:
        return [f"{each.alone.case.suite}/{each.alone.case.id}" for each in replays if wanted(each)]

    attack, benign = (
        (lambda each: each.alone.case.kind != "benign"),
        (lambda each: each.alone.case.kind == "benign"),
    )
    return {
        "attack_success": names(lambda each: attack(each) and each.alone.goal),
        "injected_effect": names(lambda each: attack(each) and each.alone.injected_effect),
        "attack_success_careless": names(lambda each: attack(each) and each.careless.goal),
        "not_done_correct": names(lambda each: benign(each) and not each.correct.done),
        "interrupted": names(lambda each: benign(each) and each.correct.escalated),
        "refused": [
            f"{each.alone.case.suite}/{each.alone.case.id}: {made.tool} ({made.code})"
            for each in replays if benign(each)
            for made in each.correct.made if made.verdict in REFUSED
        ],
        "codes": dict(
            Counter(
                f"{'injected' if made.injected else 'wanted'} {made.verdict} {made.code}"
                for each in replays for made in each.careless.made
                if made.verdict in ("deny", "withheld", "escalate")
            ).most_common()
        ),
    }  # fmt: skip


def show(results: list[Result], final: str, console: Console) -> None:
    frontier = Table(title="The frontier: per cent of all cases", title_justify="left")
    frontier.add_column("")
    frontier.add_column("aim", justify="right")
    measured = {result.configuration.name: measure(result.replays) for result in results}
    for name in measured:
        frontier.add_column(name, justify="right", style="bold" if name == final else "")
    for aim in AIMS:
        frontier.add_row(
            aim.title, f"{'≥' if aim.at_least else '≤'} {aim.limit:g}",
            *(_cell(one[aim.metric], aim.met(one[aim.metric])) for one in measured.values()),
        )  # fmt: skip
    for metric, title in _EXTRA:
        frontier.add_row(title, "", *(_cell(one[metric], True) for one in measured.values()))
    console.print(frontier)
    chosen = next((each for each in results if each.configuration.name == final), results[-1])
    by_part = Table(
        title=f"'{chosen.configuration.name}' by half, suite and kind of attack", title_justify="left"
    )
    by_part.add_column("")
    by_part.add_column("tasks + attacks", justify="right")
    for aim in AIMS:
        by_part.add_column(aim.title, justify="right")
    for title, part in slices(chosen.replays):
        found = measure(part)
        by_part.add_row(
            title, _sizes(part), *(_cell(found[aim.metric], aim.met(found[aim.metric])) for aim in AIMS)
        )
    console.print(by_part)
    for line in missed(measured[chosen.configuration.name]):
        console.print(f"missed: {line}", style="red", markup=False)


def trace(results: list[Result], console: Console) -> None:
    """Every call of every replay, for somebody who looks at single cases."""
    for result in results:
        for each in result.replays:
            case = each.alone.case
            for who in ("alone", "careless", "correct"):
                played = getattr(each, who)
                if who != "alone" and played is each.alone:
                    continue
                console.print(
                    f"{result.configuration.name} {case.suite}/{case.id} ({case.half}), {who}: "
                    f"{'done' if played.done else 'not done'}{', GOAL' if played.goal else ''}",
                    style="bold", markup=False,
                )  # fmt: skip
                for made in played.made:
                    console.print(
                        f"   {'!' if made.injected else ' '} {made.tool:24} {made.verdict:9} {made.code}"
                        f"{' approved' if made.approved else ''}{' effect' if made.effect else ''}",
                        markup=False,
                    )


def _cell(found: Share, met: bool) -> str:
    text = f"{found.percent:.1f} ({found.low:.1f}–{found.high:.1f})"
    return text if met else f"[red]{text}[/red]"


def _sizes(part: list[Replays]) -> str:
    benign = sum(each.alone.case.kind == "benign" for each in part)
    return f"{benign} + {len(part) - benign}"


def _plain(measured: dict[str, Share]) -> Json:
    return msgspec.to_builtins(measured)


def _counts(replays: list[Replays]) -> Json:
    return dict(Counter(f"{each.alone.case.kind}, {each.alone.case.half}" for each in replays))
