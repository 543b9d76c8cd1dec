"""The points of the frontier: which mechanisms decide. All are the strict pack with the same data over it.

A mechanism is switched off as an operator would do it: its modules are laid into the policy folder with
``mode: observe``. Nothing in the gateway differs.
"""

from __future__ import annotations

from typing import Final

import msgspec

MANDATE: Final = ("mandate_allowed",)
LABELS: Final = ("untrusted_flow",)
PROVENANCE: Final = ("sink_provenance",)
# These need lists of the company's own destinations, which would be values of a suite.
NEVER: Final = ("egress_destinations", "payment_recipients")


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    about: str
    observed: tuple[str, ...]


FRONTIER: Final = (
    Configuration(
        name="none", about="the strict pack alone: roles, hazards, limits",
        observed=(*NEVER, *MANDATE, *LABELS, *PROVENANCE),
    ),
    Configuration(name="mandate", about="mandates only", observed=(*NEVER, *LABELS, *PROVENANCE)),
    Configuration(name="labels", about="labels only", observed=(*NEVER, *MANDATE, *PROVENANCE)),
    Configuration(name="provenance", about="provenance only", observed=(*NEVER, *MANDATE, *LABELS)),
    Configuration(name="combined", about="all of them", observed=NEVER),
)  # fmt: skip
COMBINED: Final = "combined"
