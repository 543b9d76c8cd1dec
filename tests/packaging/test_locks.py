"""The locks install the same thing everywhere and name nobody's machine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "tests" / "clients"
LOCKS = [
    *sorted(ROOT.glob("requirements*.lock")),
    ROOT / "gateway" / "demo" / "git-server.lock",
    *sorted(CLIENTS.glob("locks/*.lock")),
]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_package_has_a_version_and_hashes_and_no_host_is_named(lock: Path) -> None:
    text = lock.read_text()
    packages = re.findall(r"^([a-z0-9][\w.-]*)(?:\[[\w,-]+\])?(\S*) ", text, flags=re.MULTILINE)
    assert len(packages) > 3
    assert all(pin.startswith("==") for _, pin in packages)
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in block for block in blocks)
    for word in ("://", "--index", "--find-links", "file:", "@ "):
        assert word not in text


@pytest.mark.parametrize(
    "lock", sorted(CLIENTS.glob("npm/*/package-lock.json")), ids=lambda path: path.parent.name
)
def test_every_npm_package_has_a_hash_and_no_host_is_named(lock: Path) -> None:
    packages = {name: said for name, said in json.loads(lock.read_text())["packages"].items() if name}
    assert len(packages) > 2
    assert all(said["integrity"].startswith("sha512-") for said in packages.values())
    assert not any("resolved" in said for said in packages.values())


def test_the_locks_agree_with_each_other() -> None:
    def pins(name: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9][\w.-]*)==(\S+)", (ROOT / name).read_text(), flags=re.MULTILINE))

    development = pins("requirements-dev.lock")
    for name in ("requirements.lock", "requirements-build.lock"):
        for package, version in pins(name).items():
            assert development[package] == version, package


def test_every_dependency_of_the_project_is_locked() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements.lock").read_text()
    wanted = [*project["dependencies"], *project["optional-dependencies"]["demo"]]
    for requirement in wanted:
        name = re.match(r"[\w.-]+", requirement)
        assert name and re.search(rf"^{re.escape(name[0].lower())}==", lock, flags=re.MULTILINE), requirement
