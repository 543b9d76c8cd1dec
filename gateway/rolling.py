"""The session that an agent has without asking for one.

It depends on nothing a client sends, so reconnecting, or naming another session, cannot leave it: labels and
budgets are kept per credential and verified subject.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256

from gateway.model import Principal


def rolling_session(principal: Principal) -> str:
    """The id of the principal's rolling session."""
    return _rolling(principal.tenant, principal.credential, principal.subject)


@lru_cache(maxsize=4096)
def _rolling(tenant: str, credential: str, subject: str | None) -> str:
    return "s-" + sha256(repr((tenant, credential, subject)).encode()).hexdigest()[:32]
