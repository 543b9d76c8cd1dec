"""A store with people around it, and a call for them to decide about."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gateway.approvals import chain as chains
from gateway.approvals.chain import Chain, Rules, Threshold, Who
from gateway.approvals.store import Store
from gateway.approvals.values import Approval, Expected, Opening, Requirement, Reviewer, Settings
from gateway.storage.credentials import Credentials
from gateway.storage.crypto import StorageKey
from gateway.storage.database import Database
from tests.storage.at import at

KEY = StorageKey(bytes(range(32)))
SECOND = 1_000_000_000


class Now:
    """The database's clock, in the hand of a test."""

    def __init__(self) -> None:
        self.ns = 1_800_000_000 * SECOND

    def __call__(self, _connection: object) -> int:
        return self.ns

    def pass_s(self, seconds: float) -> None:
        self.ns += int(seconds * SECOND)


ANY_APPROVER = Threshold(who=Who(roles=("approver", "operator")))


def one_stage(*thresholds: Threshold, name: str = "default", **more: Any) -> Chain:
    return Chain(name=name, stages=(thresholds or (ANY_APPROVER,),), decide_s=900, execute_s=300, **more)


def people(database: Database, *named: str, tenant: str = "default") -> None:
    """Operators as ``name`` or ``name:role``."""
    for each in named:
        name, _, role = each.partition(":")
        Credentials(database).insert(
            kind="operator", tenant=tenant, name=name, role=role or "approver", secret=secrets.token_bytes(32)
        )


def store_at(path: Path, now: Now | None = None, **settings: Any) -> Store:
    database = at(path).open()
    made = Settings(**{"chains": {"default": one_stage()}, **settings})
    return Store(database, KEY, made, clock=now or Now())


def reviewer(name: str, role: str = "approver", tenant: str = "default") -> Reviewer:
    return Reviewer(name=name, tenant=tenant, role=role, credential=f"key-of-{name}")


def opening(
    chain: Chain | None = None, *, owner: str = "team-a", subject: str | None = None,
    delegation: tuple[str, ...] = (), editors: tuple[str, ...] = (), **more: Any,
) -> Opening:  # fmt: skip
    chain = chain or one_stage()
    stages, escalations = chains.combined([chain])
    rules = Rules(
        stages=stages,
        escalations=escalations,
        excluded=tuple(sorted(chains.names_of("alice", owner, subject, *delegation))),
        editors=editors,
    )
    values: dict[str, Any] = {
        "tenant": "default", "agent": "alice", "owner": owner, "subject": subject, "chain": delegation,
        "session": "s", "call_id": "c1", "target": "bank/pay", "schema_hash": "h", "risk": "irreversible",
        "idempotent": False, "asked_digest": "d" * 64, "digest": "d" * 64, "effect_key": "c1",
        "args_json": b'{"amount":5}',
        "requirements": (Requirement(code="too_much", chain=chain.name, revision=chain.revision),),
        "rules": rules, "reasons_json": "[]", "facts_json": "{}", "policy_revision": "r1",
        "decide_s": chain.decide_s, "execute_s": chain.execute_s, "lease_s": 30.0,
        "reminders_s": chain.reminders_s, "editors": editors, **more,
    }  # fmt: skip
    return Opening(**values)


def seen(approval: Approval) -> Expected:
    """What somebody sees who looks at it now."""
    return Expected(version=approval.version, digest=approval.digest)


def events(store: Store, approval: Approval) -> list[str]:
    full = store.show(approval.id, approval.tenant)
    assert full is not None
    return [each.event for each in full.events]


def approve(store: Store, approval: Approval, *names: str) -> Approval:
    for name in names:
        approval = store.vote(approval.id, reviewer(name), "approve", seen(approval), reason="fine")
    return approval


def all_of(names: Iterable[str]) -> Who:
    return Who(names=tuple(names))
