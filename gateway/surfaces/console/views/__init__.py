"""The pages, one subject a file. A file is named here to be served."""

from __future__ import annotations

from typing import Final

from gateway.surfaces.console.pages import Act, Page
from gateway.surfaces.console.views import (
    agents,
    approval,
    breakers,
    decisions,
    envelopes,
    grants,
    help_page,
    kill,
    policies,
    queue,
    reviewers,
    sessions,
    status,
    tools,
    trust,
)

_ALL: Final = (
    queue, approval, grants, reviewers, envelopes, decisions, sessions, agents, trust, breakers, kill, tools,
    policies, status, help_page,
)  # fmt: skip

PAGES: Final[tuple[Page, ...]] = tuple(page for each in _ALL for page in each.PAGES)
ACTS: Final[tuple[Act, ...]] = tuple(act for each in _ALL for act in each.ACTS)
