"""What ``wardgate doctor`` says: what was looked at, why it matters, and what to do."""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["ok", "warning", "problem"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    area: str
    level: Level
    what: str
    why: str = ""
    todo: str = ""


def ok(area: str, what: str) -> Finding:
    return Finding(area=area, level="ok", what=what)


def warning(area: str, what: str, why: str, todo: str) -> Finding:
    """Works today, and deserves attention."""
    return Finding(area=area, level="warning", what=what, why=why, todo=todo)


def problem(area: str, what: str, why: str, todo: str) -> Finding:
    """Would keep the gateway from starting, or from doing what the configuration says."""
    return Finding(area=area, level="problem", what=what, why=why, todo=todo)
