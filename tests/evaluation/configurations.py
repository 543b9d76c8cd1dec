"""The points of the frontier: which mechanisms decide. All are the strict pack with the same data over it.

A mechanism is switched off as an operator would do it: its modules are laid into the policy folder with
``mode: observe``. Without mandates for each task an agent has one for its role: all tools of the suite.
Nothing in the gateway differs.
"""

from __future__ import annotations

from typing import Final

import msgspec

MANDATE: Final = ("mandate_allowed", "mandate_arguments")
LABELS: Final = ("untrusted_flow", "tainted_deletes", "monitors")
PROVENANCE: Final = ("sink_provenance", "egress_destinations", "read_before_write")


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    about: str
    observed: tuple[str, ...] = ()
    per_task: bool = True  # a mandate for each task, and not for the role
    bounds: bool = False  # and with bounds of arguments where the request gives them


FRONTIER: Final = (
    Configuration(
        name="none",
        about="the strict pack with a role's list of tools",
        observed=(*MANDATE, *LABELS, *PROVENANCE),
        per_task=False,
    ),
    Configuration(name="mandate", about="mandates for each task only", observed=(*LABELS, *PROVENANCE)),
    Configuration(
        name="labels",
        about="labels of the session only",
        observed=(*MANDATE, *PROVENANCE),
        per_task=False,
    ),
    Configuration(
        name="provenance",
        about="provenance of values only",
        observed=(*MANDATE, *LABELS),
        per_task=False,
    ),
    Configuration(name="combined", about="the strict pack as it is"),
    Configuration(name="bounded", about="the same, and mandates with bounds of arguments", bounds=True),
)
COMBINED: Final = "bounded"
