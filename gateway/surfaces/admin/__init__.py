"""The admin port: health, metrics, decisions, catalog, status and reload, for operators and monitoring.

``/livez``, ``/readyz``, ``/metrics``, the public keys of assertions and the description of the API are open,
because probes and scrapers carry no credential and none of them shows a call; everything else needs an
operator key. The port is bound to loopback unless configured otherwise and is never the one agents use.
"""

from gateway.surfaces.admin.app import create_admin
from gateway.surfaces.admin.deps import (
    Accepted,
    AdminDeps,
    DecisionFilter,
    DecisionPage,
    Decisions,
    InForce,
    IssuerState,
    PartState,
    ShadowState,
    UpstreamState,
)

__all__ = [
    "Accepted",
    "AdminDeps",
    "DecisionFilter",
    "DecisionPage",
    "Decisions",
    "InForce",
    "IssuerState",
    "PartState",
    "ShadowState",
    "UpstreamState",
    "create_admin",
]
