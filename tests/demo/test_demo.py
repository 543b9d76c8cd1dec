"""The demo keeps its promises, and notices when it does not."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.demo.office import Office, effects
from gateway.demo.stage import Played
from gateway.demo.story import Step, promised_effects, story
from gateway.policy.bundle import read_bundle
from gateway.storage.breakers import BreakerStore
from gateway.storage.database import Database
from tests.requires import requires

POLICIES = Path(__file__).parents[2] / "gateway" / "demo" / "policies"


def played(step: Step, **changed: str) -> Played:
    values = {
        "outcome": step.outcome,
        "code": step.code,
        "reason": "",
        "remedy": "",
        "text": "".join(step.shows),
    }
    return Played(step=step, **{**values, **changed})


def test_the_story_has_every_outcome_for_three_agents() -> None:
    steps = story("repository")
    assert 20 <= len(steps) <= 25
    assert {step.agent for step in steps} == {"finance-bot", "support-bot", "dev-bot"}
    assert {step.outcome for step in steps} == {"allowed", "redacted", "escalated", "denied"}


def test_no_refused_call_is_promised_an_effect() -> None:
    assert all(step.outcome == "allowed" for step in story("repository") if step.effect)
    assert promised_effects(story("repository")) == {"pay_invoice": 1, "send_mail": 2, "update_customer": 1}


def test_the_reason_codes_of_the_story_are_declared_by_its_policies() -> None:
    declared = read_bundle(POLICIES, "strict").codes | {"duplicate_effect"}
    assert {step.code for step in story("repository") if step.code} <= declared


@pytest.mark.parametrize("step", story("repository")[:12], ids=lambda step: f"{step.tool}-{step.outcome}")
def test_a_step_that_goes_otherwise_is_noticed(step: Step) -> None:
    assert played(step).as_told
    assert not played(step, outcome="failed").as_told
    if step.code:
        assert not played(step, code="something_else").as_told
    for shown in step.shows:
        assert not played(step, text="".join(step.shows).replace(shown, "")).as_told
    for hidden in step.hides:
        assert not played(step, text="".join(step.shows) + hidden).as_told


def test_the_office_counts_each_effect_and_survives_being_opened_again(tmp_path: Path) -> None:
    state = tmp_path / "office.db"
    Office(state).effect("send_mail", {"to": "a@example.com"})
    Office(state)
    assert effects(state) == {"send_mail": 1}


@requires("git")
@pytest.mark.slow
def test_the_whole_demo_goes_as_the_story_says(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "demo", "--dir", str(folder)],
        capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "None of the 13 refused calls had an effect" in done.stdout
    assert "wardgate decisions list" in done.stdout
    with Database(folder / "wardgate.db").open(read_only=True) as database:
        # Refusals are what it is about; no detector takes an agent that meets them for one gone wrong.
        assert BreakerStore(database).trips() == []


@requires("git")
@pytest.mark.slow
def test_a_policy_that_lets_too_much_through_fails_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the payment limits the story cannot come true, and the exit code says so."""
    from rich.console import Console

    from gateway.demo import show, world

    observing = world.CONFIG.replace("mode: enforce", "mode: observe")
    assert observing != world.CONFIG
    monkeypatch.setattr(world, "CONFIG", observing)
    folder = tmp_path / "demo"
    folder.mkdir()
    with Console(file=(tmp_path / "out").open("w"), width=160) as console:
        assert asyncio.run(show.run(folder, console, keep=False)) == 1
    assert "the office counts" in (tmp_path / "out").read_text()
