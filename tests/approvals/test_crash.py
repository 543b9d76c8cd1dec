"""Killed between every two statements: a short run of ``make crash-approvals``, and that it can fail."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.storage.at import sqlite_only

# In a process of its own: workers are forked, and a test process has threads.
RUN = "from tests.approvals.crash import crash; import sys; t = crash({runs}, 5, sabotage={sabotage}); "
RUN += "print(t.failures); sys.exit(3 if t.failures else 0)"


def crashed(runs: int, sabotage: bool) -> int:
    script = RUN.format(runs=runs, sabotage=sabotage)
    return subprocess.run([sys.executable, "-c", script], timeout=110, check=False).returncode


@pytest.mark.slow
def test_no_effect_twice_and_none_denied_wherever_a_worker_dies():
    assert crashed(144, sabotage=False) == 0


@pytest.mark.slow
def test_a_store_that_forgets_attempts_is_found_out():
    assert crashed(144, sabotage=True) == 3


@sqlite_only
@pytest.mark.slow
def test_a_long_queue_is_listed_decided_and_watched_in_time():
    """A short run of ``make load-approvals``, with five times its targets: other things run here too."""
    script = (
        "import asyncio, sys; from tests.approvals.load import measure, TARGETS_MS;"
        "found = asyncio.run(measure(1000, 10)); print(found);"
        "sys.exit(any(found[f'{name}_ms']['p50'] > 5 * most for name, most in TARGETS_MS.items()))"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=110, check=False, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
