"""Which tokens are refused although their issuer still stands by them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gateway.storage.revocations import TokenRevocation

_ALWAYS: Final = 1 << 62


class Revocations:
    """The revocations in force, for look-up when a token is verified."""

    def __init__(self, stored: Iterable[TokenRevocation] = ()) -> None:
        self._tokens: set[tuple[str, str]] = set()  # (issuer, jti)
        self._subjects: dict[tuple[str, str], int] = {}  # (issuer, sub): issued up to then
        self._agents: dict[tuple[str, str], int] = {}  # (tenant, agent): issued up to then
        for each in stored:
            if each.lifted_ns is not None:
                continue
            if each.kind == "token":
                self._tokens.add((each.issuer, each.value))
                continue
            latest, key = (
                (self._subjects, (each.issuer, each.value))
                if each.kind == "subject"
                else (self._agents, (each.tenant, each.value))
            )
            latest[key] = max(
                latest.get(key, -1), _ALWAYS if each.issued_before_ns is None else each.issued_before_ns
            )

    def refuses(
        self, *, issuer: str, jti: str | None, sub: str | None, tenant: str, agent: str, issued_ns: int
    ) -> str:
        """Why a token is revoked, or "" when it is not."""
        if jti is not None and (issuer, jti) in self._tokens:
            return f"jti {jti}"
        if sub is not None and issued_ns <= self._subjects.get((issuer, sub), -1):
            return f"subject {sub}"
        if issued_ns <= self._agents.get((tenant, agent), -1):
            return f"agent {agent}, issued before the revocation"
        return ""
