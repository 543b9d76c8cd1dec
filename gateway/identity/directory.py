"""The API keys in force, in memory, and whose they are.

Every failure raises ``Unauthenticated``; there is no default identity to fall back to. The directory is
rebuilt when the credential table's epoch changes, so a revocation holds within the polling interval
(half a second) and every request looks at the state of now: nothing is cached per token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Final, NamedTuple

from gateway.config import AgentConfig
from gateway.config_upstream import ModeName
from gateway.errors import Unauthenticated
from gateway.identity import keys
from gateway.identity.principals import principal_of
from gateway.model import Operator, Principal
from gateway.storage.credentials import Credential, CredentialKind

_RANK: Final = {"viewer": 0, "policy-admin": 1, "approver": 2, "operator": 3}


class _Entry(NamedTuple):
    kind: CredentialKind
    secret_hash: bytes
    expires_ns: int | None
    revoked_ns: int | None
    who: Principal | Operator | None  # None: the agent is no longer configured


class Directory:
    """Looks credentials up; replaced contents are swapped in one assignment."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.now_ns = now_ns
        self._entries: dict[str, _Entry] = {}
        self.revision = "empty"

    def load(self, stored: Iterable[Credential], agents: Mapping[str, AgentConfig], mode: ModeName) -> None:
        """Rebuild from the stored keys and the configured agents; ``mode`` is the gateway's own."""
        entries = {}
        for key in stored:
            who: Principal | Operator | None
            if key.kind == "agent":
                who = _principal(key, agents.get(key.name), mode)
            else:
                who = _operator(key)
            entries[key.id] = _Entry(key.kind, key.secret_hash, key.expires_ns, key.revoked_ns, who)
        self._entries = entries
        self.revision = _revision(entries)

    def authenticate(self, authorization: bytes | None) -> Principal:
        """The agent behind an ``Authorization`` header."""
        who = self._who(authorization, "agent")
        assert isinstance(who, Principal)
        return who

    def operator(self, authorization: bytes | None) -> Operator:
        """The operator behind an ``Authorization`` header."""
        who = self._who(authorization, "operator")
        assert isinstance(who, Operator)
        return who

    def _who(self, authorization: bytes | None, kind: CredentialKind) -> Principal | Operator:
        if authorization is None:
            raise Unauthenticated("no_credential")
        presented = keys.present(authorization)
        if presented is None:
            raise Unauthenticated("bad_credential")
        entry = self._entries.get(presented.key_id)
        # The secret is compared before anything is said about the key, so a guesser learns nothing.
        if entry is None or not keys.matches(presented, entry.secret_hash):
            raise Unauthenticated("bad_credential")
        # A key of the other kind is as good as none: an operator key must not run tools.
        if entry.kind != kind or presented.kind != kind:
            raise Unauthenticated("bad_credential", f"key {presented.key_id} is no {kind} key")
        return self._in_force(presented.key_id, entry)

    def holder(self, key_id: str) -> Operator:
        """The operator who has shown this key before, as long as it holds; for the console's sign-ins."""
        entry = self._entries.get(key_id)
        if entry is None or entry.kind != "operator":
            raise Unauthenticated("bad_credential")
        who = self._in_force(key_id, entry)
        assert isinstance(who, Operator)
        return who

    def person(self, tenant: str, name: str, credential: str) -> Operator:
        """An operator by name, for somebody whom an identity provider vouches for.

        Their rights are those of their keys that hold, the strongest of them; without one they have none.
        """
        found: Operator | None = None
        for key_id, entry in self._entries.items():
            who = entry.who
            if not isinstance(who, Operator) or (who.tenant, who.name) != (tenant, name):
                continue
            try:
                self._in_force(key_id, entry)
            except Unauthenticated:
                continue
            if found is None or _RANK[who.role] > _RANK[found.role]:
                found = who
        if found is None:
            raise Unauthenticated("bad_credential", f"no key of {name[:80]!r} holds")
        return Operator(name=name, tenant=tenant, role=found.role, credential=credential)

    def _in_force(self, key_id: str, entry: _Entry) -> Principal | Operator:
        now_ns = self.now_ns()
        # A rotated key is revoked at a moment to come, so that its holder can change over.
        if entry.revoked_ns is not None and now_ns >= entry.revoked_ns:
            raise Unauthenticated("revoked_credential", key_id)
        if entry.expires_ns is not None and now_ns >= entry.expires_ns:
            raise Unauthenticated("expired_credential", key_id)
        if entry.who is None:
            raise Unauthenticated("bad_credential", f"key {key_id}: its agent is not configured")
        return entry.who


def _principal(key: Credential, agent: AgentConfig | None, gateway_mode: ModeName) -> Principal | None:
    # A key of an agent nobody owns, or of another tenant, has no authority.
    if agent is None or agent.tenant != key.tenant:
        return None
    return principal_of(key.name, agent, gateway_mode, key.id)


def _operator(key: Credential) -> Operator | None:
    if key.role is None:
        return None
    return Operator(name=key.name, tenant=key.tenant, role=key.role, credential=key.id)


def _revision(entries: Mapping[str, _Entry]) -> str:
    state = sorted((key_id, entry.secret_hash, repr((entry.expires_ns, entry.revoked_ns, entry.who)))
                   for key_id, entry in entries.items())  # fmt: skip
    return sha256(repr(state).encode()).hexdigest()[:16]
