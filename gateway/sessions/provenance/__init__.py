"""Where the values in the arguments of a call came from.

    harvest      one result → prints, apart for what is trusted and what is not   (pure)
    Prints       what a session knows; ``apply`` and ``trace``                    (a bounded fold)
    sinks        the arguments that decide where something goes, or what is done  (pure)
    provenance   the facts for policy                                             (pure)

What it can see and what it cannot: ``docs/explanation/provenance.md``.
"""

from gateway.sessions.provenance.arguments import Sink, sinks, takes_destination
from gateway.sessions.provenance.call import provenance
from gateway.sessions.provenance.harvests import Harvest, Integrity, harvest
from gateway.sessions.provenance.known import Match
from gateway.sessions.provenance.lists import KINDS, Kind
from gateway.sessions.provenance.prints import Prints, Source, Traced

__all__ = [
    "KINDS", "Harvest", "Integrity", "Kind", "Match", "Prints", "Sink", "Source", "Traced", "harvest",
    "provenance", "sinks", "takes_destination",
]  # fmt: skip
