"""``wardgate policy rollout``: try a policy beside the one that decides, then promote it or take a step back.

The commands write to the gateway's storage; a running gateway follows within a second, and one that starts
later finds what was left.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.output import (
    DEFAULT_CONFIG,
    NOT_FOUND,
    AsJson,
    ConfigPath,
    fail,
    print_json,
    print_table,
    say,
)

if TYPE_CHECKING:
    from gateway.storage.rollouts import Played, Rollouts

app = typer.Typer(help="Try a policy on live calls, promote it, or take a step back.", no_args_is_help=True)


@app.command()
def status(
    limit: Annotated[int, typer.Option("--limit", min=0, max=1000, help="Differences shown.")] = 20,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """What decides, what is tried beside it, and where they differ."""
    import msgspec

    with _store(config, read_only=True) as store:
        parts, changes, found = store.parts(), store.counted(), store.differences(limit=limit)
    if as_json:
        print_json(
            {
                "parts": {name: msgspec.to_builtins(each) for name, each in parts.items()},
                "changes": changes,
                "differences": [msgspec.to_builtins(each) for each in found],
            }
        )
        return
    rows = []
    for part, meaning in _MEANING.items():
        each = parts.get(part)
        if each is None and part == "active":
            say("The configured policy decides.")
        elif each is not None:
            share = f"{each.percent} % of calls" if part == "candidate" else ""
            rows.append(
                [meaning, each.revision[:12] or "as configured", each.origin, share, each.by, _time(each)]
            )
    if rows:
        print_table("", ["part", "revision", "from", "tried on", "by", "since"], rows)
    if changes:
        say()
        print_table(
            "differences of the candidate",
            ["calls", "change", "rule", "tool"],
            [[str(each["calls"]), each["change"], each["rule"], each["target"]] for each in changes],
        )
    if found:
        say()
        print_table(
            "the newest",
            ["call", "tool", "change", "decided", "candidate"],
            [
                [each.call_id, each.target, each.change, f"{each.verdict} ({each.code})",
                 f"{each.candidate_verdict} ({each.candidate_code})"]
                for each in found
            ],
        )  # fmt: skip
    elif "candidate" in parts:
        say("No difference so far.")


@app.command()
def start(
    candidate: Annotated[Path, typer.Argument(help="A policy folder or a bundle (.tar.gz).")],
    percent: Annotated[int, typer.Option("--percent", min=1, max=100, help="Share of calls tried.")] = 100,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Try a policy on live calls beside the one that decides. Nobody is decided by it, and nobody waits.

    It is verified, gated and tested first, as if it were to be put in force.
    """
    from gateway.cli.opened import configuration
    from gateway.policy.archive import read_file
    from gateway.policy.bundle import read_bundle
    from gateway.policy.worker import self_test
    from gateway.rollout import of_folder, vouch
    from gateway.storage.rollouts import Stored

    policy = configuration(config).policy
    if candidate.is_dir():
        read = of_folder(candidate)
    elif candidate.is_file():
        read = read_file(candidate)
    else:
        fail(f"There is no policy folder or bundle {candidate}.", code=NOT_FOUND)
    vouch(read, policy.source)
    bundle = read_bundle(None, policy.pack, read, label=str(candidate))
    problems = self_test(bundle)[0] if policy.self_test else []
    if problems:
        fail("\n".join(problems), "Fix the tests, or the rules they are about.")
    stored = Stored(
        digest=read.digest, raw=read.raw, origin=str(candidate.resolve()), revision=bundle.revision
    )
    with _store(config) as store:
        store.start(stored, percent, _who())
    if as_json:
        print_json({"candidate": bundle.revision, "digest": read.digest, "percent": percent})
    else:
        say(f"{candidate} (revision {bundle.revision[:12]}) is tried on {percent} % of calls.")
        say("See 'wardgate policy rollout status'; then 'promote' or 'stop'.")


@app.command()
def promote(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Let the candidate decide from now on, instead of what the configuration says."""
    with _store(config) as store:
        done = store.promote(_who())
    _said(done, "decides from now on. 'wardgate policy rollout back' takes it back.", as_json)


@app.command()
def back(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Let the policy that decided before decide again. A second time undoes that."""
    with _store(config) as store:
        done = store.back(_who())
    _said(done, "decides again.", as_json)


@app.command()
def follow(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Let the configured source decide again, after a promotion or a step back."""
    with _store(config) as store:
        done = store.follow(_who())
    _said(done, "decides no longer; the configured source does.", as_json)


@app.command()
def stop(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """End the trial of the candidate. What it found stays listed until the next trial."""
    with _store(config) as store:
        done = store.stop()
    _said(done, "is tried no longer.", as_json)


_MEANING = {
    "active": "decides (promoted)",
    "source": "last good of the source",
    "candidate": "candidate",
    "before": "one step back",
}


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in many containers
        return f"uid {os.getuid()}"


def _said(played: Played, what: str, as_json: bool) -> None:
    if as_json:
        print_json({"revision": played.revision, "digest": played.digest, "origin": played.origin})
        return
    name = f"{played.origin} (revision {played.revision[:12]})" if played.digest else "The configured policy"
    say(f"{name} {what}")


def _time(played: Played) -> str:
    return datetime.fromtimestamp(played.at_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M")


@contextmanager
def _store(config: Path, *, read_only: bool = False) -> Iterator[Rollouts]:
    from gateway.cli.opened import configuration, database
    from gateway.storage.rollouts import NothingThere, Rollouts

    with database(configuration(config), read_only=read_only) as opened:
        try:
            yield Rollouts(opened)
        except NothingThere as nothing:
            fail(f"Not done: {nothing}.", "See 'wardgate policy rollout status'.", NOT_FOUND)
