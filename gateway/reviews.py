"""What reviewers do with held calls: look, vote, edit, ask, grant, and say what became of what is in doubt.

Between the admin API and the queue, because an edit is decided by policy and a resolution is written to the
journal. Every answer is plain data; every refusal is an ``ApprovalError`` with the approval as it is now.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import jsonschema_rs
import msgspec
import orjson

from gateway import pipeline, strictjson
from gateway.approvals import chain as chains
from gateway.approvals import grants, slack
from gateway.approvals.attention import Attention
from gateway.approvals.fatigue import Review
from gateway.approvals.feed import Feed
from gateway.approvals.grants import Grant
from gateway.approvals.notify import Hook
from gateway.approvals.queue import Queue, Snapshot
from gateway.approvals.slack import Preview
from gateway.approvals.store import Full
from gateway.approvals.values import Approval, Blocked, Decide, Expected, Notice, Reviewer
from gateway.approvals.views import (
    for_the_agent,
    hidden,
    redacted,
    shown,
    shown_grant,
    shown_summary,
    unredacted,
)
from gateway.callbacks import Callbacks
from gateway.errors import ApprovalError, Refused
from gateway.journal import resolution
from gateway.model import Ask, Call, Decision, Facts, Json, Operator, Principal, Tool
from gateway.ports import Parts

MAX_BULK: Final = 20
MAX_LOOKS: Final = 10_000
LOW_RISK: Final = ("read", "reversible")
_SHOWN_STATES: Final = ("pending", "approved", "executing", "recovering", "in_doubt")
_snapshot = msgspec.json.Decoder(Snapshot)


class Measured(Protocol):
    """Whoever counts what happens; ``telemetry.metrics`` does."""

    def approval_decided(self, decision: str, seconds: float) -> None: ...

    def reviewed(self, decision: str, kind: str, seconds: float) -> None: ...

    def incident(self) -> None: ...


class Reviews:
    """``on_incident`` is told of each approved call that turned out to be wrong: who reports it, and why."""

    def __init__(
        self,
        queue: Queue,
        parts: Callable[[], Parts],
        metrics: Measured,
        hook: Callable[[str], Hook | None],
    ) -> None:
        self._feed = Feed(queue.store)
        self._callbacks = Callbacks(queue.store, hook)
        self._metrics = metrics
        self.reviewed: Callable[[], None] = lambda: None  # told after each vote
        self.on_incident: list[Callable[[Approval, Operator, str], None]] = []
        self._looked: OrderedDict[tuple[str, str, str], int] = OrderedDict()
        self._queue = queue
        self._store = queue.store
        self._parts = parts

    # --------------------------------------------------------------------------------------------- looking

    async def listed(
        self, operator: Operator, states: Sequence[str], agent: str | None, target: str | None, limit: int,
        after: str | None,
    ) -> list[Mapping[str, Any]]:  # fmt: skip
        found = await asyncio.to_thread(
            self._store.list, operator.tenant, states=states or _SHOWN_STATES, agent=agent, target=target,
            limit=limit, after=after,
        )  # fmt: skip
        return [shown(each) for each in found]

    async def show(self, operator: Operator, approval_id: str) -> Mapping[str, Any] | None:
        full = await asyncio.to_thread(self._store.show, approval_id, operator.tenant)
        if full is None:
            return None
        if full.approval.state == "pending" and operator.role in chains.VOTERS:
            self._looks(operator, approval_id)
        return self._whole(full, operator)

    def close(self) -> None:
        """Nobody is waited for any more."""
        self._feed.close()

    async def changes(
        self, operator: Operator, after: int | None, wait_s: float
    ) -> tuple[Sequence[Mapping[str, Any]], int]:
        """What happened after the event of this number, waiting for something to; and the number reached.

        Without a number nothing is waited for: the answer is where to begin.
        """
        if after is None:
            return (), await self._feed.newest()
        found, reached = await self._feed.after(operator.tenant, after, wait_s)
        return [
            {"event": each.event, "at": each.at_ns, "by": each.by, "approval": shown(each.approval)}
            for each in found
        ], reached

    async def measures(self, operator: Operator) -> Mapping[str, Any]:
        """How people review: of everybody for those who run the gateway, of themselves for the others."""
        found, autonomy = await asyncio.to_thread(self._store.measures, operator.tenant)
        only = None if operator.role in ("operator", "policy-admin") else operator.name
        return shown_summary(found, autonomy, self._store.settings.fatigue, only=only)

    async def granted(self, operator: Operator) -> Sequence[Mapping[str, Any]]:
        def read() -> Sequence[Grant]:
            with self._store.database.reading() as connection:
                return grants.listed(connection, operator.tenant)

        return [shown_grant(each) for each in await asyncio.to_thread(read)]

    # -------------------------------------------------------------------------------------------- deciding

    async def vote(
        self, operator: Operator, approval_id: str, decision: Decide, version: int, digest: str, *,
        reason_code: str = "", reason: str = "", step: Attention | None = None,
    ) -> Mapping[str, Any]:  # fmt: skip
        by, expected = _reviewer(operator), Expected(version=version, digest=digest)
        looked_ns = self._looked.get((operator.tenant, operator.name, approval_id), 0)
        seen = step or Attention(looked_ns=looked_ns)
        new: list[Review] = []  # of this vote; nothing when it was delivered before

        def work() -> Approval:
            return self._store.vote(
                approval_id, by, decision, expected, reason_code=reason_code, reason=reason, seen=seen,
                measured=new.append,
            )  # fmt: skip

        after = await self._change(work)
        for review in new:
            self._metrics.reviewed(review.decision, review.kind, review.took_ms / 1000)
            self.reviewed()
        if new and after.canary is None and after.state in ("approved", "rejected"):
            self._metrics.approval_decided(after.state, (new[0].at_ns - after.opened_ns) / 1e9)
        if new and after.state != "pending":
            self._tell(after.state, after)
        return shown(after)

    async def bulk(
        self, operator: Operator, decision: Decide, items: Sequence[tuple[str, int, str]], *,
        reason_code: str, reason: str,
    ) -> Sequence[Mapping[str, Any]]:  # fmt: skip
        """Decide several in one step, each by its id and digest; what is refused does not stop the others.

        Approvals only of up to twenty low-risk calls of one tool: a batch is a thing people look at once.
        """
        ids = [approval_id for approval_id, _, _ in items]
        found = [await asyncio.to_thread(self._store.show, each, operator.tenant) for each in ids]
        known = [full.approval for full in found if full is not None]
        if len(known) != len(items) or len(set(ids)) != len(ids) or not 1 <= len(items) <= MAX_BULK:
            raise ApprovalError("not_similar", f"1 to {MAX_BULK} different approvals")
        low = all(each.risk in LOW_RISK and not _sends_out(self._tool(each)) for each in known)
        alike = len({(each.target, each.schema_hash) for each in known}) == 1
        if decision == "approve" and not (low and alike):
            raise ApprovalError("not_similar")
        became: list[Mapping[str, Any]] = []
        # One look at all of them: each gets its share of the time there was.
        since = await asyncio.to_thread(self._store.last_decision, operator.tenant, operator.name)
        step = Attention(since_ns=since, share=len(items))
        for approval_id, version, digest in items:
            try:
                after = await self.vote(
                    operator, approval_id, decision, version, digest, reason_code=reason_code, reason=reason,
                    step=step,
                )  # fmt: skip
                became.append({"id": approval_id, "state": after["state"], "code": None})
            except ApprovalError as refused:
                state = refused.state["state"] if refused.state is not None else None
                became.append({"id": approval_id, "state": state, "code": refused.code})
        return became

    async def edit(
        self, operator: Operator, approval_id: str, version: int, digest: str, arguments: Json
    ) -> Mapping[str, Any]:
        """Put other arguments in place of the agent's; policy decides about them like about any call."""
        full = await self._full(operator, approval_id)
        old = full.approval
        tool = self._tool(old)
        kept = _snapshot.decode(old.facts_json)
        if tool is None or tool.schema_hash != old.schema_hash or kept.kind != "tool":
            raise ApprovalError("edit_refused", "the tool is not what it was", shown(old))
        if full.args_json is None:
            raise ApprovalError("edit_refused", "its arguments are not kept", shown(old))
        before = orjson.loads(full.args_json)
        arguments = unredacted(arguments, before, tool.manifest.sensitive)
        _fits(tool, arguments, old)
        call, decision, facts = await self._decided_again(old, kept, tool, arguments)
        if decision.verdict == "deny":
            raise ApprovalError("edit_refused", f"policy: {decision.code}", shown(old))
        # Its key stands for the effect that is held; another effect is another call.
        if old.effect_key not in (old.call_id, call.effect_key):
            raise ApprovalError("edit_refused", "it would be another effect (effect_key)", shown(old))
        wanted = self._queue.requirements(decision) if decision.verdict == "escalate" else old.requirements
        if any(not each.revision for each in wanted):
            raise ApprovalError("edit_refused", "policy names a chain that is not configured", shown(old))
        editors = tuple(sorted({*old.editors, operator.name}))
        opening = self._queue.opening(
            call, facts, decision, wanted, asked_digest=old.asked_digest, editors=editors
        )
        opening = msgspec.structs.replace(opening, effect_key=old.effect_key)
        by, expected = _reviewer(operator), Expected(version=version, digest=digest)
        after = await self._change(lambda: self._store.edit(approval_id, by, expected, opening))
        self._tell("superseded", old)
        self._tell("opened", after)
        return shown(after)

    async def ask(
        self, operator: Operator, approval_id: str, version: int, digest: str, question: str
    ) -> Mapping[str, Any]:
        by, expected = _reviewer(operator), Expected(version=version, digest=digest)
        after = await self._change(lambda: self._store.ask(approval_id, by, expected, question))
        self._tell("asked", after)
        return shown(after)

    async def cancel(
        self, operator: Operator, approval_id: str, version: int, digest: str, reason: str
    ) -> Mapping[str, Any]:
        by, expected = _reviewer(operator), Expected(version=version, digest=digest)
        after = await self._change(lambda: self._store.cancel(approval_id, by, expected, reason))
        self._tell("cancelled", after)
        return shown(after)

    async def resolve(
        self, operator: Operator, approval_id: str, version: int, digest: str, *, executed: bool, note: str
    ) -> Mapping[str, Any]:
        """Say what became of a call in doubt, in the journal and here.

        The journal first: whatever comes in between, the sweeper finds the record and follows it.
        """
        by, expected = _reviewer(operator), Expected(version=version, digest=digest)

        def work() -> Approval:
            full = self._store.show(approval_id, by.tenant)
            if full is None:
                raise Blocked("not_found")
            found = full.approval
            if found.state != "in_doubt" or found.attempt_call is None:
                raise Blocked("approval_closed", found)
            if (found.version, found.digest) != (expected.version, expected.digest):
                raise Blocked("approval_stale", found)
            became: resolution.Became = "executed" if executed else "not_executed"
            try:
                resolution.resolve(self._store.database, found.attempt_call, became, by=by.name, note=note)
            except resolution.NotInDoubt:
                # The journal knows already, and then the two must not disagree; or it never doubted.
                said = self._store.reconciled(found.attempt_call)
                if said not in (None, became):
                    raise Blocked("approval_closed", found, f"the journal says {said}") from None
            return self._store.resolve(approval_id, by, expected, executed=executed, note=note)

        after = await self._change(work)
        self._tell(after.state, after)
        return shown(after)

    async def grant(
        self, operator: Operator, approval_id: str, version: int, digest: str, *, fields: Sequence[str],
        minutes: int, uses: int, budget_micro_usd: int, any_session: bool,
    ) -> Mapping[str, Any]:  # fmt: skip
        """Permit similar calls for a while, from an approval that this person has approved."""
        full = await self._full(operator, approval_id)
        old = full.approval
        tool = self._tool(old)
        if (old.version, old.digest) != (version, digest):
            raise ApprovalError("approval_stale", "", shown(old))
        if tool is None or tool.schema_hash != old.schema_hash or full.args_json is None:
            raise ApprovalError("grant_refused", "the tool is not what it was", shown(old))
        carried = old.state in ("approved", "executing", "executed")  # and not cancelled, expired, refused
        approved = full.standing.verdict == "approved" and operator.name in full.standing.approvers
        if not (carried and approved):
            raise ApprovalError("grant_refused", "approve the call itself first", shown(old))
        kept = _snapshot.decode(old.facts_json)
        facts = Facts(slow=kept.slow, fast=kept.fast)
        args = orjson.loads(full.args_json)
        by = _reviewer(operator)
        wanted = grants.Wanted(
            fields=tuple(fields),
            minutes=minutes,
            uses=uses,
            budget_micro_usd=budget_micro_usd,
            any_session=any_session,
        )

        def work() -> Grant:
            with self._store.database.writing() as connection:
                now = self._store.now(connection)
                return grants.make(
                    connection, now, old, by, wanted, args, tool, facts, self._queue.policy_revision()
                )

        made = await self._run(work)
        self._tell("granted", old)
        return shown_grant(made)

    async def revoke(self, operator: Operator, grant_id: str) -> Mapping[str, Any]:
        def work() -> Grant:
            with self._store.database.writing() as connection:
                now = self._store.now(connection)
                return grants.revoke(connection, now, grant_id, operator.tenant, operator.name)

        return shown_grant(await self._run(work))

    async def plant(
        self, operator: Operator, approval_id: str, digest: str, arguments: Json, note: str
    ) -> Mapping[str, Any]:
        """Put a canary into the queue: a copy of this approval, with arguments that must be rejected."""
        full = await self._full(operator, approval_id)
        old = full.approval
        if old.digest != digest:
            raise ApprovalError("approval_stale", "", shown(old))
        if full.args_json is not None and strictjson.canonical(arguments) == full.args_json:
            raise ApprovalError("edit_refused", "the arguments are those of the call itself", shown(old))
        tool = self._tool(old)
        if tool is None or tool.schema_hash != old.schema_hash:
            raise ApprovalError("edit_refused", "the tool is not what it was", shown(old))
        _fits(tool, arguments, old)
        args_json = strictjson.canonical(arguments)
        by = _reviewer(operator)
        after = await self._change(lambda: self._store.plant(approval_id, by, args_json, note))
        self._tell("opened", after)
        return {**shown(after), "canary": {"by": by.name, "note": note, "from": approval_id}}

    async def incident(
        self, operator: Operator, approval_id: str, digest: str, note: str
    ) -> Mapping[str, Any]:
        """Report that an approved call turned out to be wrong; it counts for its approvers and its rules.

        The digest says which call; its version may have moved on, and changes nothing about what was wrong.
        """
        by = _reviewer(operator)
        after = await self._change(lambda: self._store.incident(approval_id, by, digest, note))
        self._metrics.incident()
        for heard in self.on_incident:
            heard(after, operator, note)
        self._tell("incident", after)
        return shown(after)

    async def called_back(
        self, name: str, key_id: str, at: str, signature: str, body: bytes
    ) -> Mapping[str, Any]:
        """A decision of a person, passed on by a party that was told; see ``callbacks.py``."""
        now_s = self._parts().clock.now_ns() / 1e9
        operator, said = await self._callbacks.heard(name, key_id, at, signature, body, now_s)
        return await self.vote(
            operator, said.approval, said.decision, said.version, said.digest, reason_code=said.reason_code,
            reason=said.reason,
        )  # fmt: skip

    async def preview(self, approval: Approval) -> Preview:
        """What may be shown outside of what would be sent: nothing the manifest calls sensitive."""
        full = await asyncio.to_thread(self._store.show, approval.id, approval.tenant)
        tool = self._tool(approval)
        if full is None or full.args_json is None or tool is None:
            return Preview()
        args = orjson.loads(full.args_json)
        seen = redacted(args, tool.manifest.sensitive)
        # What is left out, nobody has looked at either.
        return slack.shown(orjson.dumps(seen), hidden=seen != args or bool(hidden(args)))

    # ------------------------------------------------------------------------------------------- the agent

    async def agent_looks(self, principal: Principal, approval_id: str) -> Mapping[str, Any]:
        """What an agent may know of a held call of its own: not who reviews it, nor what they think."""
        full = await asyncio.to_thread(self._store.show, approval_id, principal.tenant)
        if full is None or not _own(full.approval, principal):
            raise Refused("not_found", approval_id[:64])
        return for_the_agent(full.approval)

    async def agent_answers(self, principal: Principal, approval_id: str, text: str) -> Mapping[str, Any]:
        def work() -> Approval:
            full = self._store.show(approval_id, principal.tenant)
            if full is None or not _own(full.approval, principal):
                raise Blocked("not_found")
            return self._store.answer(approval_id, principal.tenant, principal.agent, text)

        try:
            after = await asyncio.to_thread(work)
        except Blocked as blocked:
            raise Refused(blocked.code, approval_id[:64]) from None
        self._tell("answered", after)
        return for_the_agent(after)

    # -------------------------------------------------------------------------------------------- in common

    async def _full(self, operator: Operator, approval_id: str) -> Full:
        full = await asyncio.to_thread(self._store.show, approval_id, operator.tenant)
        if full is None:
            raise Refused("not_found", approval_id)
        return full

    async def _change(self, work: Callable[[], Approval]) -> Approval:
        after: Approval = await self._run(work)
        self._queue.changed()
        return after

    async def _run(self, work: Callable[[], Any]) -> Any:
        try:
            return await asyncio.to_thread(work)
        except Blocked as blocked:
            if blocked.code == "not_found":
                raise Refused("not_found") from None
            if blocked.approval is not None:
                self._tell("refused", blocked.approval)
            state = shown(blocked.approval) if blocked.approval is not None else None
            raise ApprovalError(blocked.code, blocked.detail, state) from None

    def _looks(self, operator: Operator, approval_id: str) -> None:
        """Remember when somebody first looked; what is forgotten makes a time longer, never shorter."""
        key = (operator.tenant, operator.name, approval_id)
        if key not in self._looked:
            self._looked[key] = self._parts().clock.now_ns()
            while len(self._looked) > MAX_LOOKS:
                self._looked.popitem(last=False)

    def _tell(self, event: str, approval: Approval) -> None:
        self._queue.noticed(Notice(event=event, approval=approval))

    def _tool(self, of: Approval) -> Tool | None:
        upstream, _, name = of.target.partition("/")
        try:
            return self._parts().catalog.resolve("tool", upstream, name)
        except Refused:
            return None

    async def _decided_again(
        self, old: Approval, kept: Snapshot, tool: Tool, arguments: Json
    ) -> tuple[Call, Decision, Facts]:
        facts = Facts(slow=kept.slow, fast=kept.fast)
        ask = Ask(
            principal=kept.principal, surface="admin", kind=tool.kind, upstream=tool.upstream, name=tool.name,
            args=arguments, session=old.session, call_id=old.call_id,
        )  # fmt: skip
        try:
            call, decision = await pipeline.reviewed(self._parts(), ask, facts)
        except Refused as refused:
            raise ApprovalError("edit_refused", refused.code, shown(old)) from None
        return call, decision, facts

    def _whole(self, full: Full, operator: Operator) -> Mapping[str, Any]:
        approval = full.approval
        tool = self._tool(approval)
        kept = _snapshot.decode(approval.facts_json)
        args: Json = None
        # Who only looks sees that something waits, not what is in it.
        # Of a tool that is not listed any more it is not known what is sensitive, so all may be.
        if operator.role in chains.VOTERS and full.args_json is not None and tool is not None:
            args = orjson.loads(full.args_json)
        sensitive = tool.manifest.sensitive if tool is not None else ()
        me = full.circle.people.get(operator.name)
        mine = me is not None and chains.is_excluded(me, approval.rules.excluded)
        may = (
            me is not None
            and approval.state == "pending"
            and chains.seat(
                approval.rules, full.standing.stage, me, full.circle, self._parts().clock.now_ns()
            )
            is not None
        )
        return {
            **shown(approval),
            "arguments": redacted(args, sensitive),
            "hidden_characters": hidden(args),
            "effects": list(tool.manifest.effects) if tool is not None else [],
            "reasons": [
                {"code": each["code"], "message": each["message"], "rule": each.get("rule", "")}
                for each in orjson.loads(approval.reasons_json)
            ],
            "facts": {"slow": kept.slow, "fast": kept.fast},
            "waiting_for": full.standing.missing if approval.state == "pending" else "",
            "you": {"may_decide": may, "own_call": mine},
            "votes": [
                {
                    "stage": vote.stage + 1, "by": vote.principal, "for": vote.on_behalf or None,
                    "decision": vote.decision, "reason_code": vote.reason_code or None,
                    "reason": vote.reason, "at": vote.at_ns,
                }
                for vote in full.votes
            ],
            "events": [
                {"at": each.at_ns, "event": each.event, "by": each.by, "detail": each.detail}
                for each in full.events
            ],
        }  # fmt: skip


def _reviewer(operator: Operator) -> Reviewer:
    return Reviewer(
        name=operator.name, tenant=operator.tenant, role=operator.role, credential=operator.credential
    )


def _own(approval: Approval, principal: Principal) -> bool:
    """Whether it is a call of this agent for this user; one agent may work for many who must not meet."""
    return (approval.agent, approval.subject) == (principal.agent, principal.subject)


def _sends_out(tool: Tool | None) -> bool:
    return tool is None or "egress" in tool.manifest.effects


def _fits(tool: Tool, arguments: Json, old: Approval) -> None:
    """Whether edited arguments are still what the tool asks for; raises ``ApprovalError``."""
    schema = orjson.loads(tool.definition_json).get("inputSchema") if tool.definition_json else None
    if not isinstance(arguments, dict):
        raise ApprovalError("edit_refused", "the arguments must be an object", shown(old))
    if not isinstance(schema, dict):
        return
    try:
        jsonschema_rs.validator_for(schema).validate(arguments)
    except jsonschema_rs.ValidationError as error:
        where = "/".join(str(part) for part in error.instance_path)
        raise ApprovalError("edit_refused", f"/{where}: {error.message}"[:300], shown(old)) from None
    except (ValueError, jsonschema_rs.ReferencingError):
        return  # a schema nobody can use asks for nothing
