"""Gather the fragments of this folder into CHANGELOG.md, as one version, and remove them.

    python changelog.d/gather.py 0.2.0 [--dry-run]

A fragment is ``<area>.<added|changed|deprecated|removed|fixed|security>.md``: a sentence or two.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

FOLDER = Path(__file__).parent
CHANGELOG = FOLDER.parent / "CHANGELOG.md"
HEADINGS = ("added", "changed", "deprecated", "removed", "fixed", "security")
UNRELEASED = "## [Unreleased]\n"


def fragments() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(FOLDER.glob("*.md")):
        kind = path.stem.rpartition(".")[2]
        if kind not in HEADINGS:
            sys.exit(f"{path.name}: '{kind}' is none of {', '.join(HEADINGS)}")
        found.setdefault(kind, []).append(path)
    return found


def section(version: str, found: dict[str, list[Path]]) -> str:
    lines = [f"## [{version}] - {datetime.now(UTC):%Y-%m-%d}\n"]
    for kind in HEADINGS:
        if kind in found:
            lines.append(f"\n### {kind.capitalize()}\n\n")
            lines += [f"- {' '.join(path.read_text(encoding='utf-8').split())}\n" for path in found[kind]]
    return "".join(lines)


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    found = fragments()
    text = section(sys.argv[1], found)
    if "--dry-run" in sys.argv:
        sys.stdout.write(text)
        return
    old = CHANGELOG.read_text(encoding="utf-8")
    CHANGELOG.write_text(old.replace(UNRELEASED, f"{UNRELEASED}\n{text}", 1), encoding="utf-8")
    for paths in found.values():
        for path in paths:
            path.unlink()


main()
