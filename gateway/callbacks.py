"""Decisions that a party passes on: who says it, whether it is said now and for the first time, and by whom.

The signature proves the party, and gives it no right at all: what counts is what the person may whom the
configuration maps its user to. What is refused here is noted with the approval it was about.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from gateway import strictjson
from gateway.approvals import chain as chains
from gateway.approvals import rows, slack
from gateway.approvals.notify import Hook, Seen, verified
from gateway.approvals.store import Store
from gateway.approvals.values import Decide
from gateway.errors import Refused, Unauthenticated
from gateway.model import Operator

logger = logging.getLogger("wardgate.approvals")


class CalledBack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a party passes on: who decided what about which approval, as it was shown to them."""

    approval: str
    version: int
    digest: str
    actor: str
    decision: Decide
    reason_code: str = ""
    reason: str = ""


class Callbacks:
    """``hook`` gives a configured webhook by its name."""

    def __init__(self, store: Store, hook: Callable[[str], Hook | None]) -> None:
        self._store = store
        self._hook = hook
        self._taken = Seen()

    async def heard(
        self, name: str, key_id: str, at: str, signature: str, body: bytes, now_s: float
    ) -> tuple[Operator, CalledBack]:
        """``take`` in a thread."""
        return await asyncio.to_thread(self.take, name, key_id, at, signature, body, now_s)

    def take(
        self, name: str, key_id: str, at: str, signature: str, body: bytes, now_s: float
    ) -> tuple[Operator, CalledBack]:
        """The person who decides, and what. Blocks.

        Raises ``Unauthenticated`` for what is not signed or not now, and ``Refused`` for what was delivered
        before, for somebody it may not name, and for what is no decision.
        """
        hook = self._hook(name)
        if hook is None or not verified(hook, key_id, at, signature, body, now_s):
            raise Unauthenticated("bad_credential", f"callback {name[:64]}")
        said = _said(hook, body)
        by = f"{hook.name}:{said.actor[:64]}"
        try:
            # Whoever overhears a delivery must not be able to have it taken once more.
            if not self._taken.first(hook.name, signature, now_s):
                raise Refused("callback_replayed", hook.name)
            return self._person(hook, said.actor), said
        except Refused as refused:
            self._store.turned_away(said.approval, hook.tenant, by, f"{said.decision}: {refused.code}")
            logger.warning("a decision was refused", extra={"by": by, "code": refused.code})
            raise

    def _person(self, hook: Hook, actor: str) -> Operator:
        name = hook.actors.get(actor)
        with self._store.database.reading() as connection:
            everyone = rows.circle(connection, hook.tenant, self._store.settings)
        person = everyone.people.get(name) if name is not None else None
        if person is None or person.role not in chains.VOTERS:
            raise Refused("wrong_role", f"{hook.name}: {actor[:64]}")
        role: Any = person.role
        return Operator(name=person.name, tenant=hook.tenant, role=role, credential=f"callback:{hook.name}")


def _said(hook: Hook, body: bytes) -> CalledBack:
    """What a party passes on, in its own form; raises ``Refused`` for anything else."""
    try:
        if hook.style == "slack":
            return msgspec.convert(msgspec.structs.asdict(slack.clicked(body)), CalledBack)
        return msgspec.json.decode(strictjson.canonical(strictjson.parse(body)), type=CalledBack)
    except (msgspec.MsgspecError, ValueError, Refused):
        raise Refused("invalid_request", "not a decision") from None
