"""The shipped library is plain Rego: OPA itself compiles it strictly and passes its tests, pack by pack.

A pack lies over the one it extends, which OPA knows nothing of, so each is written out as it is loaded.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import orjson
import pytest

from gateway.policy import load, packs, run_tests
from gateway.policy.library import library_path
from tests.requires import requires

pytestmark = requires("opa")


def written(pack: str, folder: Path) -> Path:
    bundle = load(None, pack).bundle
    for number, module in enumerate((*bundle.libraries.values(), *bundle.rules, *bundle.tests)):
        (folder / f"{number:03}_{Path(module.name).name}").write_text(module.text, encoding="utf-8")
    (folder / "data.json").write_bytes(orjson.dumps(bundle.data))
    return folder


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["opa", *command], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("pack", packs())
def test_opa_passes_the_tests_of_a_pack_all_that_we_run_ourselves(pack: str, tmp_path: Path) -> None:
    done = run("test", written(pack, tmp_path), "--format", "json")
    results = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not [item for item in results if item.get("fail") or item.get("skip")]
    ours = {result.name for result in run_tests(load(None, pack).bundle).results}
    theirs = {re.sub(r"^data\.", "", item["package"]) + "." + item["name"] for item in results}
    assert theirs == ours


@pytest.mark.parametrize("pack", packs())
def test_opa_compiles_a_pack_strictly(pack: str, tmp_path: Path) -> None:
    done = run("check", "--strict", written(pack, tmp_path))
    assert done.returncode == 0, done.stderr


def test_opa_passes_and_formats_the_library_as_it_lies_there() -> None:
    done = run("test", library_path())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    assert not run("fmt", "--list", library_path()).stdout
