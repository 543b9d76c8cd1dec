"""Recorded decisions made on the spot: what the journal would give back of a call that was decided."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway import strictjson
from gateway.model import Call, Facts, Outcome
from gateway.policy import EmbeddedPolicy
from gateway.policy.policy import at_once
from gateway.policy.replay import decided, result_of
from gateway.recorded import Recorded, Said


def recorded(
    policy: EmbeddedPolicy,
    call: Call,
    facts: Facts | None = None,
    outcome: Outcome | None = None,
    **more: Any,
) -> Recorded:
    """What is on record after ``policy`` has decided the call as the pipeline does."""
    facts = facts or Facts()
    decision = at_once(policy.call(call, facts))
    args = policy.modify(call, decision) if decision.verdict != "deny" and decision.obligations else None
    blank = Recorded(
        seq=1, call_id=call.id, at_ns=call.received_ns, agent=call.principal.agent, target=call.tool.target,
        said=Said(verdict=decision.verdict), call=call, facts=facts, outcome=outcome, **more,
    )  # fmt: skip
    final, said = decided(policy, blank)
    told = result_of(policy, final, facts, outcome) if outcome and said.verdict != "deny" else None
    return msgspec.structs.replace(
        blank, said=said, result_said=told, sent_json=strictjson.canonical(args) if args is not None else b""
    )
