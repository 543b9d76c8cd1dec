"""``wardgate policy replay`` and ``diff``: what a draft would change, on what really happened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.output import (
    DEFAULT_CONFIG,
    FOUND_SOMETHING,
    AsJson,
    ConfigPath,
    fail,
    note,
    print_json,
    print_table,
    say,
)
from gateway.cli.policy_source import Agent, Limit, Pack, Since, Tool, bundle_of, narrowed, short, shown

if TYPE_CHECKING:
    from gateway.journal.query import Filter
    from gateway.journal.recorded import Inputs
    from gateway.policy.replay import Report

Draft = Annotated[Path, typer.Argument(help="The folder with the draft.")]


class Unwanted(StrEnum):
    """Changes that can make a replay fail."""

    loosened = "loosened"
    tightened = "tightened"
    error = "error"


FailOn = Annotated[
    list[Unwanted] | None,
    typer.Option("--fail-on", help="Exit with 1 when there is such a change; may be given several times."),
]


def replay(
    draft: Draft,
    pack: Pack = None,
    agent: Agent = None,
    tool: Tool = None,
    since: Since = None,
    limit: Limit = None,
    fail_on: FailOn = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Decide recorded calls again under a draft, and list what would come out otherwise.

    Each call is decided with the arguments, facts and time it had. The journal is only read, so this works
    beside a running gateway. Arguments are not shown: examples are ids for 'wardgate decisions show'.
    """
    from gateway.policy.policy import EmbeddedPolicy

    policy = EmbeddedPolicy(bundle_of(draft, config, pack))
    with inputs(config) as recorded:
        report = run(policy, recorded, narrowed(agent, tool, since), limit)
    tell(report, as_json)
    if any(report.counts[change] for change in fail_on or ()):
        raise typer.Exit(FOUND_SOMETHING)


def run(policy: Any, recorded: Inputs, narrow: Filter, limit: int | None) -> Report:
    """Replay with a progress bar; nothing but counts and examples is kept."""
    from gateway.policy.replay import Tally
    from gateway.policy.replay import replay as decide_again

    total = recorded.count(narrow)
    tally = Tally()
    flips = decide_again(policy, recorded.read(narrow, limit))
    for flip in shown(flips, min(total, limit or total), "replay"):
        tally.add(flip)
    return tally.report(policy.revision)


def tell(report: Report, as_json: bool) -> None:
    import msgspec

    if as_json:
        print_json({"total": report.total, **msgspec.to_builtins(report)})
        return
    if not report.total:
        say("No decisions are on record for these conditions.")
        return
    counts = report.counts
    flipped = counts["tightened"] + counts["loosened"] + counts["error"]
    say(
        f"{report.total:,} decisions: {counts['unchanged']:,} unchanged, {counts['tightened']:,} tightened, "
        f"{counts['loosened']:,} loosened, {counts['error']:,} errors, "
        f"{counts['not_replayable']:,} not replayable."
    )
    if report.missing:
        say("Not replayable: " + short(f"{count:,} {why}" for why, count in report.missing.items()) + ".")
    if report.reasons_only:
        say(f"{report.reasons_only:,} of the unchanged would give another reason code.")
    if flipped:
        say()
        print_table(
            "",
            ["change", "calls", "rule", "tool", "stage", "what", "for example"],
            [
                [group.change, f"{group.count:,}", group.rule, group.target, group.stage, group.why,
                 group.examples[0]]
                for group in report.groups
            ],
        )  # fmt: skip
    if report.groups_left_out:
        note(f"{report.groups_left_out:,} more changed calls are counted and not listed.")


@contextmanager
def inputs(config: Path) -> Iterator[Inputs]:
    """The recorded inputs of a configuration, read-only."""
    from gateway.cli.opened import configuration, database
    from gateway.journal.recorded import Inputs
    from gateway.storage.crypto import load_key

    loaded = configuration(config)
    with database(loaded, read_only=True) as opened:
        yield Inputs(opened, load_key(loaded.storage.key_file))


def diff(
    old: Annotated[Path, typer.Argument(help="A policy folder.")],
    new: Annotated[Path, typer.Argument(help="Another one.")],
    pack: Pack = None,
    agent: Agent = None,
    tool: Tool = None,
    since: Since = None,
    limit: Limit = None,
    calls: Annotated[
        bool, typer.Option("--calls/--no-calls", help="Also decide recorded calls under both.")
    ] = True,
    fail_on: FailOn = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Compare two policies: modules, codes and data, and what recorded calls come out as under each."""
    import msgspec

    from gateway.policy.diff import compared, decided_by
    from gateway.policy.policy import EmbeddedPolicy

    before, after = bundle_of(old, config, pack), bundle_of(new, config, pack)
    found = compared(before, after)
    report = None
    if calls and not config.is_file():
        fail(f"There is no {config} to take recorded calls from.", "Give --config, or --no-calls.")
    if calls:
        first, second = EmbeddedPolicy(before), EmbeddedPolicy(after)
        with inputs(config) as recorded:
            narrow = narrowed(agent, tool, since)
            from gateway.policy.replay import Tally
            from gateway.policy.replay import replay as decide_again

            tally = Tally()
            total = recorded.count(narrow)
            again = (decided_by(first, each) for each in recorded.read(narrow, limit))
            for flip in shown(decide_again(second, again), min(total, limit or total), "diff"):
                tally.add(flip)
            report = tally.report(second.revision)
    if as_json:
        print_json({
            "policy": msgspec.to_builtins(found),
            "calls": None if report is None else {"total": report.total, **msgspec.to_builtins(report)},
        })  # fmt: skip
    else:
        if not found:
            say("The policies are the same.")
        else:
            print_table("", ["change", "what", "name", "in particular"],
                        [[item.change, item.what, item.name, item.detail] for item in found])  # fmt: skip
        if report is not None:
            say()
            tell(report, False)
    if report is not None and any(report.counts[change] for change in fail_on or ()):
        raise typer.Exit(FOUND_SOMETHING)
