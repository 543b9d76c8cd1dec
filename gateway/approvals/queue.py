"""``Queue``: the ``Approvals`` port on the store.

For an escalated call it finds a grant that fits, or the approval of the call's digest, or opens one, and
says in words an agent can act on what is to be done now. Everything that touches the database runs in a
thread.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import orjson
from sqlalchemy import Connection

from gateway.approvals import chain as chains
from gateway.approvals import claim as claims
from gateway.approvals import grants, rows
from gateway.approvals.absent import NoApprovals
from gateway.approvals.chain import Chain, Rules
from gateway.approvals.claim import Claim
from gateway.approvals.grants import Grant
from gateway.approvals.store import Store
from gateway.approvals.values import Approval, Blocked, Notice, Opening, Requirement, Settings, Ticket
from gateway.model import Call, Decision, Facts, Finding, Json, Outcome, Principal, Refusal
from gateway.ports import Clock, Permit
from gateway.reasons import REASONS, sentence
from gateway.sessions.budgets import MAX_AMOUNT
from gateway.sessions.charges import Unreadable, charges_of
from gateway.storage import control

RETRY_MS: Final = 5_000
POLL_S: Final = 0.25
_SELF_REVIEWABLE: Final = ("read", "reversible")


_findings: Final = msgspec.json.Decoder(tuple[Finding, ...])


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What policy knew when a call was held, kept beside it so that an edit can be decided."""

    principal: Principal
    slow: Mapping[str, Json] = {}
    fast: Mapping[str, Json] = {}
    kind: str = "tool"
    traceparent: str = ""  # of the held call, so that its trace and that of what came of it find each other
    provenance: Mapping[str, Json] = {}  # of the arguments, for people


class Queue:
    """Implements ``ports.Approvals``. ``policy_revision`` is that in force; ``owner_of`` is of an agent."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        policy_revision: Callable[[], str],
        owner_of: Callable[[str, str], str | None],
        unenforced: Callable[[str, str], None],
        noticed: Callable[[Notice], None],
    ) -> None:
        self.store = store
        self.clock = clock
        self.policy_revision = policy_revision
        self.working: set[str] = set()  # approvals whose attempt this process is carrying out
        self._owner_of = owner_of
        self._unenforced = unenforced
        self.noticed = noticed
        self._changed = asyncio.Event()
        self._absent = NoApprovals()

    @property
    def settings(self) -> Settings:
        return self.store.settings

    def configure(self, settings: Settings) -> None:
        """Put a reloaded configuration in force; approvals keep the stages they were opened with."""
        self.store.settings = settings

    def changed(self) -> None:
        """Wake everybody who waits for people; on the event loop's thread."""
        self._changed.set()
        self._changed = asyncio.Event()

    # ------------------------------------------------------------------------------------------- the port

    async def hold(self, call: Call, facts: Facts, decision: Decision) -> Refusal | Permit:
        if not self.settings.chains:
            return await self._absent.hold(call, facts, decision)
        said = await asyncio.to_thread(self._hold, call, facts, decision)
        if isinstance(said, Opened):
            self.noticed(Notice(event="opened", approval=said.approval))
            return self._pending(said.approval, decision)
        if isinstance(said, ApprovalPermit) and said.discharged is not None:
            self.noticed(Notice(event="discharged", approval=said.discharged))
        return said

    async def renew(self, permit: Permit, call: Call, facts: Facts, decision: Decision) -> Refusal:
        said = await asyncio.to_thread(self._renew, permit, call, facts, decision)
        if isinstance(said, Opened):
            self.noticed(Notice(event="opened", approval=said.approval))
            return self._pending(said.approval, decision)
        return said

    async def refused(self, permit: Permit, code: str) -> None:
        if isinstance(permit, ApprovalPermit):
            after = await asyncio.to_thread(self.store.drifted, permit.ticket.approval.id, code)
            if after is not None:
                self.noticed(Notice(event=after.state, approval=after))

    async def wait(self, approval_id: str) -> bool:
        loop = asyncio.get_running_loop()
        until = loop.time() + self.settings.hold_s
        while True:
            changed = self._changed
            state = await asyncio.to_thread(self.store.state_of, approval_id)
            if state != "pending":
                return True
            left = until - loop.time()
            if left <= 0:
                return False
            try:
                async with asyncio.timeout(min(left, POLL_S)):
                    await changed.wait()
            except TimeoutError:
                continue

    async def may_send(self, permit: Permit) -> bool:
        if isinstance(permit, GrantPermit):
            return await asyncio.to_thread(self._unchanged, permit.epoch)
        assert isinstance(permit, ApprovalPermit) and permit.claim is not None
        may = await asyncio.to_thread(
            claims.may_send, self.store, permit.claim, monotonic=self.clock.monotonic()
        )
        # Once more, because looking has taken a while.
        return may and self.clock.monotonic() <= permit.claim.send_by

    def ended(self, permit: Permit) -> None:
        if not isinstance(permit, ApprovalPermit) or not permit.taken:
            return
        self.working.discard(permit.ticket.approval.id)
        if permit.ticket.self_reviewed:
            self._unenforced("approval", "self_review")
        if permit.ticket.envelope:
            self._unenforced("approval", "envelope")
        if permit.after is not None:
            self.noticed(Notice(event=permit.after.state, approval=permit.after))

    # -------------------------------------------------------------------------------------- in a thread

    def _hold(self, call: Call, facts: Facts, decision: Decision) -> Refusal | Permit | Opened:
        wanted = self.requirements(decision)
        # A chain that is not there asks nobody, so nothing may pass by it.
        if missing := [each.chain for each in wanted if not each.revision]:
            return _refusal("unknown_chain", decision, detail=f"Chain: {_inert(missing[0], 64)}.")
        permit = self._granted(call, facts, wanted)
        if permit is not None:
            return permit
        found = self.store.find(call.principal.tenant, call.digest)
        if self.settings.envelopes and (found is None or found.state in ("pending", "failed")):
            permit = self._let_through(call, facts, decision, wanted)
            if permit is not None:
                return permit
        if found is None or found.state == "failed":
            return self._open(call, facts, decision, wanted)
        return self._found(found, call, facts, decision)

    def _found(
        self, found: Approval, call: Call, facts: Facts, decision: Decision
    ) -> Refusal | Permit | Opened:
        if found.state == "pending":
            return self._pending(found, decision)
        if found.state in ("approved", "recovering"):
            ticket = self.store.ticket(found.id)
            if ticket is None:
                return _refusal("approval_changed", decision)
            permit = ApprovalPermit(self, ticket)
            # The envelope is closed: what it let through and was not sent is for people to decide.
            if found.envelope is not None and self.store.envelope_of(found) is None:
                return self._renew(permit, call, facts, decision)
            # The chain is another one by now, or policy asks for more: what was approved is not enough.
            if not permit.covers(decision):
                return self._renew(permit, call, facts, decision)
            return permit
        return self._said(found, decision)

    def said_of(self, found: Approval) -> Refusal:
        """What the same call is answered, as far as it is known without deciding it again."""
        findings = _findings.decode(found.reasons_json)
        decision = Decision(verdict="escalate", findings=findings)
        return self._pending(found, decision) if found.state == "pending" else self._said(found, decision)

    def _said(self, found: Approval, decision: Decision) -> Refusal:
        if found.state in ("approved", "recovering", "executing"):
            return _refusal("approval_under_way", decision, retry_after_ms=RETRY_MS)
        if found.state == "in_doubt":
            return _refusal("in_doubt", decision)
        if found.state == "rejected":
            why = f"Reason: {found.reason_code}." if found.reason_code else ""
            said = f' The reviewer says: "{_inert(found.reason_text, 500)}"' if found.reason_text else ""
            return _refusal("approval_rejected", decision, detail=f"{why}{said}".strip())
        if found.state == "executed":
            return _refusal("approval_done", decision, detail=f"It was call {found.attempt_call}.")
        if found.state == "failed":
            return _refusal("approval_failed", decision, detail=f"It was call {found.attempt_call}.")
        return _refusal("approval_expired" if found.state == "expired" else "approval_cancelled", decision)

    def _open(
        self, call: Call, facts: Facts, decision: Decision, wanted: Sequence[Requirement]
    ) -> Refusal | Opened:
        opening = self.opening(call, facts, decision, wanted)
        try:
            opened = self.store.open(opening)
        except Blocked as blocked:
            return _refusal(blocked.code, decision)
        return Opened(opened.approval) if opened.new else self._pending(opened.approval, decision)

    def _renew(self, permit: Permit, call: Call, facts: Facts, decision: Decision) -> Refusal | Opened:
        wanted = self.requirements(decision)
        if any(not each.revision for each in wanted):
            return _refusal("unknown_chain", decision)
        if not isinstance(permit, ApprovalPermit):
            return self._open(call, facts, decision, wanted)
        old = permit.ticket.approval
        opening = self.opening(
            call, facts, decision, wanted, asked_digest=old.asked_digest, editors=old.editors
        )
        try:
            return Opened(self.store.replace(old.id, opening))
        except Blocked as blocked:
            return _refusal(blocked.code, decision)

    def requirements(self, decision: Decision) -> tuple[Requirement, ...]:
        """Each escalation with the chain it names; a chain that is not configured has no revision."""
        found = {(each.code, each.chain or "default") for each in decision.findings}
        return tuple(
            Requirement(
                code=code,
                chain=name,
                revision=self.settings.chains[name].revision if name in self.settings.chains else "",
            )
            for code, name in sorted(found)
        )

    def opening(
        self, call: Call, facts: Facts, decision: Decision, wanted: Sequence[Requirement], *,
        asked_digest: str = "", editors: tuple[str, ...] = (),
    ) -> Opening:  # fmt: skip
        """What an approval of this call is opened with."""
        principal, manifest = call.principal, call.tool.manifest
        asked = [self.settings.chains[name] for name in sorted({each.chain for each in wanted})]
        stages, escalations = chains.combined(asked)
        return Opening(
            tenant=principal.tenant, agent=principal.agent, owner=principal.owner, subject=principal.subject,
            chain=principal.chain, session=call.session, call_id=call.id, target=call.tool.target,
            schema_hash=call.tool.schema_hash, risk=manifest.risk, idempotent=manifest.idempotent,
            asked_digest=asked_digest or call.digest, digest=call.digest, effect_key=call.effect_key,
            args_json=call.args_json, requirements=tuple(wanted),
            rules=Rules(
                stages=stages, escalations=escalations, excluded=self._excluded(call, asked), editors=editors
            ),
            reasons_json=msgspec.json.encode(decision.findings).decode(),
            facts_json=msgspec.json.encode(
                Snapshot(
                    principal=principal, slow=facts.slow, fast=facts.fast, kind=call.tool.kind,
                    traceparent=call.traceparent,
                    provenance=facts.provenance,
                )
            ).decode(),
            policy_revision=decision.revision, decide_s=min(each.decide_s for each in asked),
            execute_s=min(each.execute_s for each in asked),
            lease_s=max(self.settings.lease_s, self.settings.send_s + 2 * manifest.deadline_s + 10),
            reminders_s=tuple(sorted(at for each in asked for at in each.reminders_s)), editors=editors,
        )  # fmt: skip

    def _excluded(self, call: Call, asked: Sequence[Chain]) -> tuple[str, ...]:
        """Everyone the call comes from, under all their names; the owner too, unless all chains allow it."""
        principal = call.principal
        owners = [self._owner_of(principal.tenant, each) for each in principal.chain]
        out = chains.names_of(principal.agent, *principal.chain, *owners)
        alone = all(each.self_review for each in asked) and call.tool.manifest.risk in _SELF_REVIEWABLE
        if not alone:
            out |= chains.names_of(principal.owner, principal.subject)
        return tuple(sorted(out))

    def _let_through(
        self, call: Call, facts: Facts, decision: Decision, wanted: Sequence[Requirement]
    ) -> Permit | None:
        """Break-glass: an envelope that two people have opened covers this call."""
        try:
            approved = self.store.discharge(self.opening(call, facts, decision, wanted))
        except Blocked:
            return None  # another call was quicker; people are asked about this one
        if approved is None:
            return None
        ticket = self.store.ticket(approved.id)
        return ApprovalPermit(self, ticket, discharged=approved) if ticket is not None else None

    def _granted(self, call: Call, facts: Facts, wanted: Sequence[Requirement]) -> Permit | None:
        tool, principal = call.tool, call.principal
        if grants.forbidden(tool.manifest.risk, tool.manifest.effects, grants.confidentiality(tool, facts)):
            return None
        with self.store.database.reading() as connection:
            now = self.store.now(connection)
            found = grants.candidates(connection, now, principal.tenant, principal.agent, call.session, tool)
            epoch = control.authority(connection)
        for grant in found:
            fits = set(wanted) <= set(grant.requirements) and grants.matches(grant.matcher, call.args)
            if fits and grant.epoch == epoch and grant.policy_revision == self.policy_revision():
                return GrantPermit(self, grant, epoch)
        return None

    def _unchanged(self, epoch: int) -> bool:
        with self.store.database.reading() as connection:
            return control.authority(connection) == epoch

    def _pending(self, found: Approval, decision: Decision) -> Refusal:
        why = decision.findings[0] if decision.findings else None
        until = datetime.fromtimestamp(found.decide_by_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        text = sentence(why.message) if why is not None else ""
        text = f"{text} A person has to approve it and has been asked; nothing was done yet.".strip()
        if found.question is not None and found.answer is None:
            text += f' The reviewer asks: "{_inert(found.question, 500)}"'
        return Refusal(
            code="approval_needed",
            message=text,
            remedy="Call again with the same arguments to learn the decision, "
            f"and to have the call carried out when it is approved. It is decided by {until}.",
            rule=why.rule if why is not None else "",
            retryable=True,
            retry_after_ms=RETRY_MS,
            approval=found.id,
            asks=found.question is not None and found.answer is None,
            findings=decision.findings,
        )


class Opened(msgspec.Struct, frozen=True):
    """An approval that was opened just now, so that people must hear of it."""

    approval: Approval


class ApprovalPermit:
    """Implements ``ports.Permit`` for an approval: one attempt at one call."""

    def __init__(self, queue: Queue, ticket: Ticket, discharged: Approval | None = None) -> None:
        """``discharged`` is an approval that an envelope has let through just now."""
        self._queue = queue
        self.ticket = ticket
        self.discharged = discharged
        self.claim: Claim | None = None
        self.taken = False
        self.after: Approval | None = None  # what the outcome has made of it

    @property
    def fact(self) -> Mapping[str, Json]:
        return self.ticket.fact()

    @property
    def args(self) -> Mapping[str, Json] | None:
        found: Mapping[str, Json] | None = (
            orjson.loads(self.ticket.args_json) if self.ticket.args_json is not None else None
        )
        return found

    @property
    def traceparent(self) -> str:
        return held_traceparent(self.ticket.approval)

    def covers(self, decision: Decision) -> bool:
        """Whether each escalation, with its chain as it is configured now, is among those approved."""
        return set(self._queue.requirements(decision)) <= set(self.ticket.approval.requirements)

    def discharges(self, call: Call, decision: Decision) -> bool:
        return call.digest == self.ticket.approval.digest and self.covers(decision)

    def bind(self, call: Call, decision: Decision, decided_at: float) -> None:
        self.claim = Claim(
            ticket=self.ticket,
            call_id=call.id,
            digest=call.digest,
            policy_revision=decision.revision,
            decided_at=decided_at,
            send_by=decided_at + self._queue.settings.send_s,
        )

    def begin(self, connection: Connection) -> None:
        queue = self._queue
        assert self.claim is not None, "bind() comes first"
        claims.claim(
            queue.store,
            connection,
            self.claim,
            monotonic=queue.clock.monotonic(),
            policy_revision=queue.policy_revision(),
            send_s=queue.settings.send_s,
        )
        queue.working.add(self.ticket.approval.id)
        self.taken = True

    def end(self, connection: Connection, outcome: Outcome | None) -> None:
        assert self.claim is not None
        self._queue.working.discard(self.ticket.approval.id)
        self.after = claims.settle(
            self._queue.store,
            connection,
            self.ticket.approval.id,
            self.ticket.attempt,
            self.claim.call_id,
            claims.became(outcome),
        )


class GrantPermit:
    """Implements ``ports.Permit`` for one use of a grant."""

    args: Mapping[str, Json] | None = None
    traceparent = ""

    def __init__(self, queue: Queue, grant: Grant, epoch: int) -> None:
        self._queue = queue
        self.grant = grant
        self.epoch = epoch
        self.taken = False
        self._cost = 0
        self._call_id = ""

    @property
    def fact(self) -> Mapping[str, Json]:
        return self.grant.fact()

    def discharges(self, call: Call, decision: Decision) -> bool:
        return set(self._queue.requirements(decision)) <= set(self.grant.requirements)

    def bind(self, call: Call, decision: Decision, decided_at: float) -> None:
        charged = charges_of(call.tool.manifest, call.args, call.args_json)
        # A price that cannot be read fits no budget.
        self._cost = MAX_AMOUNT if isinstance(charged, Unreadable) else charged.get("cost_micro_usd", 0)
        self._call_id = call.id

    def begin(self, connection: Connection) -> None:
        now = self._queue.store.now(connection)
        grants.use(
            connection, now, self.grant.id, cost=self._cost, policy_revision=self._queue.policy_revision()
        )
        rows.note(connection, self.grant.made_from, now, "grant_used", "wardgate", self._call_id)
        self.taken = True

    def end(self, connection: Connection, outcome: Outcome | None) -> None:
        """A use is used whatever becomes of it."""


class _Held(msgspec.Struct, frozen=True):
    traceparent: str = ""


_held = msgspec.json.Decoder(_Held)


def held_traceparent(approval: Approval) -> str:
    """Of the call an approval was opened for."""
    return _held.decode(approval.facts_json).traceparent


def _refusal(
    code: str, decision: Decision, *, detail: str = "", retry_after_ms: int | None = None
) -> Refusal:
    reason = REASONS[code]
    why = decision.findings[0] if decision.findings else None
    return Refusal(
        code=code,
        message=f"{reason.message} {detail}".strip(),
        remedy=reason.remedy,
        rule=why.rule if why is not None else "",
        retryable=reason.retryable,
        retry_after_ms=retry_after_ms,
        findings=decision.findings,
    )


def _inert(text: Any, longest: int) -> str:
    """Somebody's words inside ours: one line, nothing invisible, no quotation mark to break out with."""
    shown = "".join(
        " " if char.isspace() else char
        for char in str(text)
        if char.isspace() or unicodedata.category(char)[0] != "C"
    )
    return " ".join(shown.replace('"', "'").split())[:longest]
