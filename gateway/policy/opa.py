"""``policy.engine: opa``: calls and results are decided by a real OPA, over HTTP.

Everything but the evaluation is what the embedded engine has: the gate, the scope groups, the memory, the one
combiner, redaction. Lists are evaluated by the embedded engine in both modes, over the same modules: they are
looked up at places that cannot wait, and held against OPA by the parity tests.

Whatever OPA does (down, slow, an error, undefined, an odd shape, another revision) is a deny with a code.
One thing softens that: a read that was allowed within the last 30 s, asked again exactly, stays allowed while
OPA cannot be reached.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.model import Call, Decision, Facts, Json, Outcome, Principal
from gateway.policy.module import Bundle
from gateway.policy.opa_engine import OpaEngine
from gateway.policy.opa_link import OpaLink
from gateway.policy.opa_target import OpaFault, Target
from gateway.policy.policy import EmbeddedPolicy
from gateway.ports import ResultDecision

_UNREACHABLE: Final = frozenset({"policy_unavailable", "policy_timeout"})
_KEPT_S: Final = 30.0
_KEPT: Final = 4096


class _Allowed(msgspec.Struct, frozen=True):
    at: float
    slow: Mapping[str, Json]
    fast: Mapping[str, Json]
    decision: Decision


class OpaPolicy(EmbeddedPolicy):
    """Implements ``ports.Policy`` over a real OPA. Made anywhere; used on the event loop that opened it."""

    def __init__(self, bundle: Bundle, target: Target, *, memoise: bool = True) -> None:
        super().__init__(bundle, memoise=memoise)
        self._link = OpaLink(bundle, target)
        self._opa = OpaEngine(self._link, deadline_s=target.deadline_s, memoise=memoise)
        self._allowed: dict[tuple[Principal, str], _Allowed] = {}

    @property
    def engine(self) -> str:
        return self._link.engine

    @property
    def trouble(self) -> str:
        """Why OPA does not decide by this bundle now; ``""`` when it does."""
        return self._link.trouble

    async def open(self, *, must: bool) -> None:
        """Hand the bundle to OPA. ``must``: raise ``OpaFault`` when that fails, instead of trying on."""
        try:
            await self._link.open()
        except OpaFault as error:
            if must or error.code == "policy_error":  # OPA refuses a module: waiting does not mend that
                await self._link.close(remove=False)
                raise
        self._link.keep()

    async def close(self, *, remove: bool) -> None:
        await self._link.close(remove=remove)

    async def call(self, call: Call, facts: Facts) -> Decision:
        started = time.perf_counter_ns()
        group = self._phases["call"].of_call(call)
        if group is None:
            return self._inexact(started)
        contributions, memoised = await self._opa.ask(
            group, lambda sections: sections.encode(call, facts), call.traceparent
        )
        decision = self._judged(call, group, contributions, memoised, started)
        return self._remembered(call, facts, decision) if _only_reads(call) else decision

    async def result(self, call: Call, facts: Facts, outcome: Outcome) -> ResultDecision:
        started = time.perf_counter_ns()
        group = self._phases["result"].of_call(call)
        if group is None:
            return ResultDecision(decision=self._inexact(started))
        contributions, memoised = await self._opa.ask(
            group, lambda sections: sections.encode(call, facts, outcome), call.traceparent
        )
        return self._shown(call, outcome, group, contributions, memoised, started)

    def _remembered(self, call: Call, facts: Facts, decision: Decision) -> Decision:
        """What holds while OPA cannot be reached: the last decision on exactly this read, for 30 s."""
        key = (call.principal, call.digest)
        if decision.verdict == "allow":
            if len(self._allowed) >= _KEPT:
                self._allowed.clear()
            self._allowed[key] = _Allowed(time.monotonic(), facts.slow, _steady(facts), decision)
            return decision
        last = self._allowed.get(key)
        if not _UNREACHABLE.issuperset(finding.code for finding in decision.findings):
            self._allowed.pop(key, None)  # decided anew, and not allowed
            return decision
        if (
            last is None
            or time.monotonic() - last.at > _KEPT_S
            or last.slow != facts.slow
            or last.fast != _steady(facts)
        ):
            return decision
        # The agent and the record see which modules could not be asked.
        return msgspec.structs.replace(
            last.decision,
            notes=(*last.decision.notes, *decision.findings),
            memoised=len(decision.rules),
            elapsed_ns=decision.elapsed_ns,
        )


def _only_reads(call: Call) -> bool:
    manifest = call.tool.manifest
    return manifest.risk == "read" and "egress" not in manifest.effects


def _steady(facts: Facts) -> dict[str, Json]:
    """What must be the same for a decision to be used again: all but the counters of the session."""
    steady = {name: value for name, value in facts.fast.items() if name != "session"}
    session = facts.fast.get("session")
    steady["labels"] = session.get("labels") if isinstance(session, Mapping) else None
    return steady
