"""The image: what its Dockerfile promises, and every step of it run without Docker."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.packaging.dockerfile import ROOT, stages
from tests.requires import requires

BUILD, FINAL = stages()


def last(word: str) -> Any:
    return [step for step in FINAL if step.word == word][-1]


def test_what_builds_is_not_what_runs():
    assert BUILD[1].rest == "${PYTHON} AS build" and FINAL[0].rest == "${PYTHON}"
    assert re.fullmatch(r"PYTHON=docker\.io/library/python:3\.\d+-slim-\w+", BUILD[0].rest)
    assert [step.rest for step in FINAL if step.word == "COPY"] == [
        "--from=build /opt/wardgate /opt/wardgate"
    ]


def test_it_runs_as_nobody_whose_number_the_chart_knows():
    user = last("USER").rest
    assert user == "65532:65532"
    words = [step.word for step in FINAL]
    assert "RUN" not in words[words.index("USER") :]
    helpers = (ROOT / "helm/wardgate/templates/_helpers.tpl").read_text()
    assert helpers.count("runAsUser: 65532") == 2


def test_no_step_and_no_probe_needs_a_shell():
    for step in [*BUILD, *FINAL]:
        if step.word in ("RUN", "CMD", "ENTRYPOINT", "HEALTHCHECK"):
            assert step.command, step
            assert not {"sh", "bash", "/bin/sh", "-c"} & set(step.command[:2]), step


def test_everything_that_is_installed_is_pinned_with_its_hash():
    installs = [step.command for step in BUILD if step.word == "RUN" and "install" in step.command]
    assert len(installs) == 4
    for command in installs:
        if command[-1] == "wardgate":  # made two steps above
            assert "--no-index" in command and "--no-deps" in command
        else:
            assert "--require-hashes" in command and "--only-binary=:all:" in command


def test_the_command_is_the_one_the_chart_gives():
    assert last("ENTRYPOINT").command == ["/opt/wardgate/bin/wardgate"]
    chart = (ROOT / "helm/wardgate/templates/deployment.yaml").read_text()
    [args] = re.findall(r"args: (\[serve.*\])", chart)
    assert last("CMD").command == yaml.safe_load(args)


def test_only_what_is_named_goes_into_the_build():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source
        for step in BUILD
        if step.word == "COPY"
        for source in step.rest.split()[:-1]
    }  # fmt: skip
    assert allowed == copied


@pytest.fixture(scope="module")
def replayed() -> dict[str, Any]:
    """What ``replay.py`` reports."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for a mount namespace of its own")
    own = ["unshare", "--mount", "--propagation", "private"]
    if subprocess.run([*own, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("no mount namespace can be made here, as in many containers")
    [wanted] = re.findall(r"python:(3\.\d+)", BUILD[0].rest)
    pyenv = sorted(Path(sys.base_prefix).parent.glob(f"{wanted}.*/bin/python3"))
    prefix = pyenv[-1].parents[1] if pyenv else Path(sys.base_prefix)
    done = subprocess.run(
        [
            *own,
            *(sys.executable, Path(__file__).with_name("replay.py"), ROOT, prefix),
        ],
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(600)
@requires("unshare", "setpriv")
class TestRunWithoutDocker:
    def test_it_serves_as_nobody_and_ends_in_order(self, replayed):
        assert replayed["uid"] == ["65532"] * 4
        assert replayed["capabilities"] == "0000000000000000"
        assert replayed["exit_code"] == 0
        assert replayed["database"] == 65532

    def test_it_writes_only_where_its_volume_is(self, replayed):
        assert replayed["written"] == []

    def test_the_health_check_fails_when_the_gateway_is_gone(self, replayed):
        assert replayed["health_of_a_stopped_gateway"] == 1

    def test_it_has_what_the_lock_pins_and_nothing_that_installs(self, replayed):
        lock = (ROOT / "requirements.lock").read_text()
        pins = dict(re.findall(r"^([a-z0-9][\w.-]*)(?:\[[\w,-]+\])?==(\S+)", lock, flags=re.MULTILINE))
        packages = {re.sub(r"[._]+", "-", name).lower(): each for name, each in replayed["packages"].items()}
        assert packages.pop("wardgate")
        assert not {"pip", "setuptools", "hatchling"} & set(packages)
        assert packages.items() <= {re.sub(r"[._]+", "-", n): v for n, v in pins.items()}.items()

    def test_its_bill_of_materials_lists_what_is_in_it(self, replayed):
        sbom = replayed["sbom"]
        assert sbom["bomFormat"] == "CycloneDX"
        listed = {each["name"].lower(): each["version"] for each in sbom["components"]}
        assert listed == {name.lower(): version for name, version in replayed["packages"].items()}
        assert all(each.get("purl", "pkg:pypi/").startswith("pkg:pypi/") for each in sbom["components"])
