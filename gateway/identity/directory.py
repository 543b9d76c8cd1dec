"""The credentials in force, in memory, and the one place where a principal is made.

Every failure raises ``Unauthenticated``; there is no default identity to fall back to. The directory is
rebuilt when the credential table's epoch changes, so a revocation holds within the polling interval
(half a second) and every request looks at the state of now: nothing is cached per token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Final, Literal, NamedTuple, Protocol

from gateway.config import AgentConfig, ModeName
from gateway.errors import Unauthenticated
from gateway.identity import keys
from gateway.model import Mode, Operator, Principal


Role = Literal["viewer", "approver", "policy-admin", "operator"]
_ROLES: Final[dict[str, Role]] = {
    "viewer": "viewer",
    "approver": "approver",
    "policy-admin": "policy-admin",
    "operator": "operator",
}


class StoredKey(Protocol):
    """What is kept of a key; times are nanoseconds since the epoch, ``None`` for never."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def tenant(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def role(self) -> str | None: ...
    @property
    def secret_hash(self) -> str: ...
    @property
    def expires_ns(self) -> int | None: ...
    @property
    def revoked_ns(self) -> int | None: ...


class _Entry(NamedTuple):
    secret_hash: str
    expires_ns: int | None
    revoked: bool
    who: Principal | Operator | None  # None: the agent is no longer configured


class Directory:
    """Looks credentials up; replaced contents are swapped in one assignment."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._entries: dict[str, _Entry] = {}
        self.revision = "empty"

    def load(self, stored: Iterable[StoredKey], agents: Mapping[str, AgentConfig], mode: ModeName) -> None:
        """Rebuild from the stored keys and the configured agents; ``mode`` is the gateway's own."""
        entries = {}
        for key in stored:
            who: Principal | Operator | None
            if key.kind == "agent":
                who = _principal(key, agents.get(key.name), mode)
            else:
                who = _operator(key)
            entries[key.id] = _Entry(key.secret_hash, key.expires_ns, key.revoked_ns is not None, who)
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

    def _who(self, authorization: bytes | None, kind: keys.KeyKind) -> Principal | Operator:
        if authorization is None:
            raise Unauthenticated("no_credential")
        presented = keys.present(authorization)
        # A key of the other kind is as good as none: an operator key must not run tools.
        if presented is None or presented.kind != kind:
            raise Unauthenticated("bad_credential")
        entry = self._entries.get(presented.key_id)
        # The secret is compared before anything is said about the key, so a guesser learns nothing.
        if entry is None or not keys.matches(presented.secret, entry.secret_hash):
            raise Unauthenticated("bad_credential")
        if entry.revoked:
            raise Unauthenticated("revoked_credential", presented.key_id)
        if entry.expires_ns is not None and self._now_ns() >= entry.expires_ns:
            raise Unauthenticated("expired_credential", presented.key_id)
        if entry.who is None:
            raise Unauthenticated("bad_credential", f"key {presented.key_id}: its agent is not configured")
        return entry.who


def _principal(key: StoredKey, agent: AgentConfig | None, gateway_mode: ModeName) -> Principal | None:
    # A key of an agent nobody owns, or of another tenant, has no authority.
    if agent is None or agent.tenant != key.tenant:
        return None
    lenience: list[Mode] = ["enforce", "warn", "observe"]
    return Principal(
        tenant=key.tenant,
        agent=key.name,
        owner=agent.owner,
        credential=key.id,
        labels=agent.labels,
        environment=agent.environment,
        mode=max(agent.mode, gateway_mode, key=lenience.index),
        revision=sha256(agent.model_dump_json().encode()).hexdigest()[:16],
    )


def _operator(key: StoredKey) -> Operator | None:
    role = _ROLES.get(key.role or "")
    if role is None:
        return None
    return Operator(name=key.name, tenant=key.tenant, role=role, credential=key.id)


def _revision(entries: Mapping[str, _Entry]) -> str:
    state = sorted((key_id, entry.secret_hash, str(entry.expires_ns), entry.revoked, repr(entry.who))
                   for key_id, entry in entries.items())  # fmt: skip
    return sha256(repr(state).encode()).hexdigest()[:16]
