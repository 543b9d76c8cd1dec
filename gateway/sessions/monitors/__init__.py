"""Past-time monitors: rules about the order and number of calls in a session, at constant cost.

``definitions`` is what a ``monitors/*.yaml`` may say, ``templates`` has the automata and their formulas,
``monitors`` compiles and runs all of them. Nothing here reads a clock or does I/O.
"""

from gateway.sessions.monitors.definitions import Definition, Unusable, read, schema
from gateway.sessions.monitors.matching import Event
from gateway.sessions.monitors.monitors import Hit, Monitor, Monitors, Note, State, Violation

__all__ = [
    "Definition", "Event", "Hit", "Monitor", "Monitors", "Note", "State", "Unusable", "Violation", "read",
    "schema",
]  # fmt: skip
