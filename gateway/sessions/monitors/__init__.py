"""Past-time monitors: rules about the order and number of calls in a session, at constant cost.

``definitions`` is what a ``monitors/*.yaml`` may say, ``reading`` refuses what cannot be meant, ``templates``
has the automata and their formulas, ``monitors`` compiles and runs all of them. Nothing here reads a clock or
does I/O.
"""

from gateway.sessions.monitors.definitions import Definition, Unusable
from gateway.sessions.monitors.matching import Event
from gateway.sessions.monitors.monitors import Hit, Monitor, Monitors, Note, State, Violation
from gateway.sessions.monitors.reading import examine, read, schema

__all__ = [
    "Definition", "Event", "Hit", "Monitor", "Monitors", "Note", "State", "Unusable", "Violation", "examine",
    "read", "schema",
]  # fmt: skip
