"""The session of a caller that names none: one for each credential and verified user, on every surface."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256


@lru_cache(maxsize=4096)
def rolling(tenant: str, credential: str, subject: str | None) -> str:
    """The session that labels and budgets are kept in.

    It depends on nothing a client sends, so reconnecting, or naming another session, cannot leave it.
    """
    return "s-" + sha256(repr((tenant, credential, subject)).encode()).hexdigest()[:32]
