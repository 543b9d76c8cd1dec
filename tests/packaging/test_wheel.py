"""What a user installs: the wheel, in an environment of its own, far from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.requires import requires

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(*command: str | Path, cwd: Path, timeout: int = 300) -> str:
    """Run with nothing of this checkout in the environment."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "VIRTUAL", "WARDGATE"))
    }
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out, cwd=ROOT)
    [built] = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of commands of an empty environment with the locked dependencies and the wheel."""
    home = tmp_path_factory.mktemp("elsewhere")
    venv, python = home / "venv", home / "venv" / "bin" / "python"
    uv = shutil.which("uv")
    lock = ROOT / "requirements.lock"
    if uv:
        run(uv, "venv", "--quiet", "--python", sys.executable, venv, cwd=home)
        install = (uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python)
        run(*install, "--require-hashes", "-r", lock, cwd=home)
        run(*install, "--no-deps", wheel, cwd=home)
    else:
        run(sys.executable, "-m", "venv", venv, cwd=home)
        run(python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", lock, cwd=home)
        run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=home)
    yield venv / "bin"


CONSOLE = (
    "templates/base.html", "static/console.css", "static/console.js", "static/htmx.min.js",
    "static/hx-sse.min.js", "static/vendored.json",
)  # fmt: skip


def test_the_wheel_carries_policies_migrations_and_the_demo_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "gateway/_policies/data.yaml" in names
    assert "gateway/_policies/packs/strict/data.yaml" in names
    assert any(name.startswith("gateway/_policies/lib/") for name in names)
    assert any(name.startswith("gateway/storage/migrations/versions/") for name in names)
    assert {f"gateway/surfaces/console/{file}" for file in CONSOLE} <= names
    assert {"gateway/demo/git-server.lock", "gateway/demo/policies/data.yaml"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith("tests/") for name in names)


@requires("git")
def test_the_demo_runs_from_an_installed_wheel(installed: Path, tmp_path: Path) -> None:
    where = run(installed / "python", "-c", "import gateway; print(gateway.__file__)", cwd=tmp_path)
    assert str(ROOT) not in where, "the checkout must not be what is tested"
    shown = run(installed / "wardgate", "demo", "--dir", tmp_path / "demo", cwd=tmp_path, timeout=120)
    assert "None of the 13 refused calls had an effect" in shown


def test_init_finds_its_policies_in_an_installed_wheel(installed: Path, tmp_path: Path) -> None:
    run(installed / "wardgate", "init", "--dir", tmp_path / "site", cwd=tmp_path)
    config = tmp_path / "site" / "wardgate.yaml"
    assert "0 failed" in run(installed / "wardgate", "policy", "test", "--config", config, cwd=tmp_path)
