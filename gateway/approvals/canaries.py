"""Canaries: requests in the queue that must be rejected, to see whether people look.

A canary is a copy of an approval with other arguments, such as another IBAN. It looks like any other until it
is decided. It is never carried out: the digests it has are those of no call, so no agent's call finds it, and
the claim refuses it besides. There is no record of it in the journal, because there was no call, and it is
left out of the counts of what waits. Whoever approves one is told at once, and it is counted.
"""

from __future__ import annotations

import secrets
from typing import Any

import msgspec
import orjson

from gateway.approvals import chain
from gateway.approvals.values import Approval, Opening, Settings
from gateway.digest import new_id


def opening(source: Approval, by: str, args_json: bytes, settings: Settings) -> Opening:
    """What a canary is opened with. Who made it knows it, so they cannot decide about it."""
    named = [settings.chains[each.chain] for each in source.requirements if each.chain in settings.chains]
    call_id = new_id()
    seconds = (source.decide_by_ns - source.opened_ns) / 1e9
    excluded = {*source.rules.excluded, *chain.names_of(by, *chain.also_known_as(by, settings.aliases))}
    return Opening(
        tenant=source.tenant, agent=source.agent, owner=source.owner, subject=source.subject,
        chain=source.chain, session=source.session, call_id=call_id, target=source.target,
        schema_hash=source.schema_hash, risk=source.risk, idempotent=False,
        asked_digest=secrets.token_hex(32), digest=secrets.token_hex(32), effect_key=call_id,
        args_json=args_json, requirements=source.requirements,
        rules=msgspec.structs.replace(source.rules, excluded=tuple(sorted(excluded)), editors=()),
        reasons_json=source.reasons_json, facts_json=source.facts_json,
        policy_revision=source.policy_revision, decide_s=seconds, execute_s=source.execute_s,
        lease_s=source.lease_s, reminders_s=tuple(sorted(at for each in named for at in each.reminders_s)),
    )  # fmt: skip


def marked(by: str, note: str, source: str) -> str:
    """What is stored of a canary: who made it, of what, and why it must be rejected."""
    return orjson.dumps({"by": by, "note": note, "from": source}).decode()


def shown(approval: Approval) -> dict[str, Any] | None:
    """What may be known of it: nothing while it waits, else people would decide by that."""
    if approval.canary is None or approval.state == "pending":
        return None
    found: dict[str, Any] = orjson.loads(approval.canary)
    return found
