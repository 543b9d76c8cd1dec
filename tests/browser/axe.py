"""axe-core from npm, of one version with one checksum: used by tests, never shipped (MPL-2.0)."""

from __future__ import annotations

import base64
import subprocess
import tarfile
from hashlib import sha512
from pathlib import Path
from typing import Any, Final

from playwright.async_api import Page

VERSION: Final = "4.14.1"
INTEGRITY: Final = (
    "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
)
FOLDER: Final = Path(__file__).resolve().parents[2] / "build" / "npm"


def source() -> str:
    """The script, fetched once into ``build``; what is there already is checked again."""
    tarball = FOLDER / f"axe-core-{VERSION}.tgz"
    if not tarball.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", f"axe-core@{VERSION}", "--silent", "--pack-destination", str(FOLDER)]
        subprocess.run(command, check=True, capture_output=True, timeout=100)
    content = tarball.read_bytes()
    found = "sha512-" + base64.b64encode(sha512(content).digest()).decode()
    assert found == INTEGRITY, f"{tarball} is not the axe-core that was looked at"
    with tarfile.open(tarball) as archive:
        file = archive.extractfile("package/axe.min.js")
        assert file is not None
        return file.read().decode()


async def violations(page: Page, script: str) -> list[str]:
    """What axe finds wrong with a page, a line each."""
    await page.evaluate(script)
    found: dict[str, Any] = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']} ({each['impact']}): {node['html'][:160]} — {node['failureSummary'][:200]}"
        for each in found["violations"]
        for node in each["nodes"]
    ]
