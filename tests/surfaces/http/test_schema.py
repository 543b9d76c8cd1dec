"""The description and the behaviour agree, whatever is sent: schemathesis against the real gateway."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.gateway import Counting
from tests.surfaces.http.support import configured

HOOKS = "tests.surfaces.http.schema_hooks"
ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_every_answer_is_one_the_description_promises(tmp_path: Path, server: Counting):
    """All of schemathesis' checks, on valid and on hostile requests.

    Among them: no 5xx, only described statuses, media types and bodies, what the schema forbids is refused
    and what it allows is not, no method without an Allow header, nothing without a key.
    """
    wardgate = configured(tmp_path / "gateway", server)
    # The tool that the examples of the description name.
    upstreams = wardgate.config["upstreams"]
    upstreams["bank"] = upstreams.pop("counting")
    for upstream in upstreams.values():  # what arguments such a tool needs, no schema says
        tools = upstream["tools"].items()
        upstream["tools"] = {name: tool for name, tool in tools if "effect_key" not in tool}
    wardgate.write_config()
    try:
        wardgate.start()
        done = subprocess.run(
            [
                sys.executable, "-m", "schemathesis.cli", "run", f"{wardgate.agents_url}/openapi.json",
                "--checks", "all",
                "--phases", "examples,coverage,fuzzing", "--max-examples", "20", "--no-color",
                "--generation-deterministic", "--suppress-health-check", "all",
            ],
            capture_output=True, text=True, timeout=110, cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": HOOKS, "KEY": wardgate.key()},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert "Operations:       12 selected / 12 total" in done.stdout
        assert "gateway_error" not in wardgate.log() and "Traceback" not in wardgate.log()
    finally:
        wardgate.close()
