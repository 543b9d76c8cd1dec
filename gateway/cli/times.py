"""Times for people: ISO 8601 with the offset of this machine."""

from __future__ import annotations

from datetime import UTC, datetime


def local(ns: int) -> str:
    """``2026-11-23T14:05:09+01:00`` of nanoseconds since the epoch."""
    return datetime.fromtimestamp(ns / 1e9, UTC).astimezone().isoformat(timespec="seconds")


def short(ns: int) -> str:
    """``2026-11-23 14:05:09`` of nanoseconds since the epoch, in the time of this machine."""
    return datetime.fromtimestamp(ns / 1e9, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def clock(ns: int) -> str:
    """``14:05:09.123`` of nanoseconds since the epoch, for lines that scroll by."""
    return datetime.fromtimestamp(ns / 1e9, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
