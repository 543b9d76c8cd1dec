"""A user's own detector: a Python entry point of the group ``wardgate.detectors``.

    [project.entry-points."wardgate.detectors"]
    night_shift = "my_package:NightShift"

The class is called without arguments, once for each gateway. Its ``observe`` is called for every event, on
the
path of a call: it must not wait, and must hold its own memory within bounds. One that raises is taken out, on
record, and the call goes on: a broken detector must not stop the agents it was never asked to stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Final, Protocol, runtime_checkable

from gateway.breakers.event import Alarm, Event

GROUP: Final = "wardgate.detectors"


@runtime_checkable
class Detector(Protocol):
    """What a detector offers. Its alarms stand under the name of the entry point."""

    def observe(self, event: Event) -> Sequence[Alarm]:
        """Take one event in; alarms are about the event's agent and domain."""


def names() -> set[str]:
    """Of the detectors of all installed packages; loads none of them."""
    return {point.name for point in entry_points(group=GROUP)}


def installed() -> dict[str, Detector]:
    """The detectors of all installed packages; raises ``TypeError`` for something that is none."""
    found: dict[str, Detector] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda each: each.name):
        made = point.load()()
        if not isinstance(made, Detector):
            raise TypeError(f"{point.value} is no detector: it has no 'observe'")
        found[point.name] = made
    return found
