"""promtool accepts the rules, and every alert fires and ends when it should."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from observability.queries import FOLDER
from tests.requires import requires

pytestmark = [pytest.mark.slow, requires("promtool")]
PROMETHEUS = FOLDER / "prometheus"


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=110, cwd=PROMETHEUS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rules_and_configuration_are_well_formed():
    promtool("check", "rules", "--lint=all", "--lint-fatal", *sorted(PROMETHEUS.glob("rules/*.yml")))
    promtool("check", "config", "prometheus.yml")


@pytest.mark.parametrize("path", sorted(PROMETHEUS.glob("tests/*.yml")), ids=lambda path: path.stem)
def test_alerts_fire_and_end(path: Path):
    assert "SUCCESS" in promtool("test", "rules", path)


def test_a_wrong_expectation_would_be_found(tmp_path: Path):
    text = (PROMETHEUS / "tests/last_week.yml").read_text().replace("../rules", str(PROMETHEUS / "rules"))
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(text.replace("severity: 'ticket'", "severity: 'page'"))
    done = subprocess.run(["promtool", "test", "rules", str(wrong)], capture_output=True, timeout=110)
    assert done.returncode != 0
