"""The Dockerfile as steps, for tests. Only what our own uses is understood; anything else is an error."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
KNOWN = {
    "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "RUN", "USER",
    "VOLUME", "WORKDIR",
}  # fmt: skip


class Step(NamedTuple):
    word: str
    rest: str

    @property
    def command(self) -> list[str]:
        """The exec form; a shell form has none."""
        command = json.loads(self.rest[self.rest.index("[") :])
        assert isinstance(command, list) and all(isinstance(each, str) for each in command)
        return command

    @property
    def pairs(self) -> dict[str, str]:
        return dict(re.findall(r'(\S+?)=("[^"]*"|\S+)', self.rest))


def stages(path: Path = ROOT / "Dockerfile") -> list[list[Step]]:
    """The steps of each stage, ``FROM`` first; the steps before the first are in its stage."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE))
    found: list[list[Step]] = []
    before: list[Step] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        assert word in KNOWN, f"{word}: teach tests/packaging/dockerfile.py this word first"
        if word == "FROM":
            found.append([])
        (found[-1] if found else before).append(Step(word, rest.strip()))
    found[0] = [*before, *found[0]]
    return found
