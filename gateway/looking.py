"""What people look at in the console beside what the admin API shows: the queue with a glimpse of each call,
what was decided about calls like one, why policy asked, definitions side by side, and the policy's text.

Reads only. Arguments are shown to those who may vote, without what the manifest calls sensitive.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec
import orjson

from gateway import pipeline
from gateway.approvals import chain as chains
from gateway.approvals import grants, lookup, rows
from gateway.approvals.lookup import Narrow
from gateway.approvals.queue import Queue, Snapshot
from gateway.approvals.store import Store
from gateway.approvals.values import Approval
from gateway.approvals.views import redacted, shown
from gateway.catalog import concealed
from gateway.config import Config
from gateway.errors import Refused
from gateway.journal import display
from gateway.journal.recorded import Inputs
from gateway.ledger import readable
from gateway.model import Ask, Facts, Json, Operator, Tool
from gateway.pins import judged
from gateway.policy.explain import explain_call
from gateway.policy.module import Bundle
from gateway.policy.policy import EmbeddedPolicy
from gateway.policy.replay import decided
from gateway.ports import Parts
from gateway.storage import control
from gateway.storage.crypto import Sealed, StorageKey, Unreadable
from gateway.storage.pins import Pins

logger = logging.getLogger("wardgate.console")

_LIKE: Final = 50
_GLIMPSE: Final = 8
_snapshot = msgspec.json.Decoder(Snapshot)


class Looking:
    """``bundle`` is the policy in force, ``config`` the configuration."""

    def __init__(
        self,
        queue: Queue,
        key: StorageKey,
        pins: Pins,
        *,
        parts: Callable[[], Parts],
        bundle: Callable[[], Bundle],
        config: Callable[[], Config],
    ) -> None:
        self._store: Store = queue.store
        self._database = queue.store.database
        self._key = key
        self._pins = pins
        self._parts = parts
        self._bundle = bundle
        self._config = config
        self._inputs = Inputs(self._database, key)
        # Engines belong to the thread that made them, and an explanation must not hold up a call.
        self._explaining = ThreadPoolExecutor(1, thread_name_prefix="explain")
        self._policy: EmbeddedPolicy | None = None

    def close(self) -> None:
        self._explaining.shutdown(wait=False, cancel_futures=True)

    # -- the queue

    def pulse(self, tenant: str) -> tuple[Mapping[str, int], int]:
        """Counters that move with what they are named for (approvals, breakers, kills …), and how many calls
        of a tenant wait for people. Blocks."""
        waiting = Narrow(states=("pending",))
        with readable(), self._database.reading() as connection:
            return control.epochs(connection), sum(lookup.counted(connection, tenant, waiting).values())

    async def page(
        self, operator: Operator, narrow: Narrow, *, newest: bool, limit: int, after: str
    ) -> Mapping[str, Any]:
        """``{"items", "counts", "cursor"}``: approvals in short, each with what is missing and a glimpse."""
        return await asyncio.to_thread(self._page, operator, narrow, newest, limit, after)

    def _page(
        self, operator: Operator, narrow: Narrow, newest: bool, limit: int, after: str
    ) -> Mapping[str, Any]:
        with readable(), self._database.reading() as connection:
            found = lookup.page(
                connection, operator.tenant, narrow, newest=newest, limit=limit + 1, after=after
            )
            counts = lookup.counted(connection, operator.tenant, narrow)
            page = found[:limit]
            everyone = rows.circle(connection, operator.tenant, self._store.settings)
            now = self._store.now(connection)
            ids = [each.id for each in page]
            sealed, voted = lookup.sealed(connection, ids), lookup.voted(connection, ids)
            items = []
            for each in page:
                votes = rows.votes(connection, each.id) if each.id in voted else ()
                standing = chains.evaluate(each.rules, rows.counted(votes), everyone)
                me = everyone.people.get(operator.name)
                may = (
                    me is not None
                    and each.state == "pending"
                    and chains.seat(each.rules, standing.stage, me, everyone, now) is not None
                )
                reasons = orjson.loads(each.reasons_json)
                items.append({
                    **shown(each),
                    "reason": reasons[0]["message"] if reasons else "",
                    "waiting_for": standing.missing if each.state == "pending" else "",
                    "may_decide": may,
                    "own_call": me is not None and chains.is_excluded(me, each.rules.excluded),
                    "arguments": self._glimpse(operator, each, sealed.get(each.id)),
                })  # fmt: skip
        return {"items": items, "counts": counts, "cursor": page[-1].id if len(found) > limit else None}

    def _glimpse(self, operator: Operator, each: Approval, row: Any) -> Json:
        """The first few arguments, for a line of the queue."""
        args = self._arguments(each, row) if operator.role in chains.VOTERS else None
        return dict(list(args.items())[:_GLIMPSE]) if isinstance(args, dict) else None

    def _arguments(self, each: Approval, row: Any) -> Json:
        if row is None:
            return None
        try:
            sealed = Sealed(row.key_id, row.nonce, row.ciphertext)
            args = orjson.loads(self._key.open(f"approval/{each.id}", sealed))
        except Unreadable:
            return None
        tool = self._tool(each.target)
        # Which of them are sensitive is not known any more, so all may be.
        return None if tool is None else redacted(args, tool.manifest.sensitive)

    async def around(self, operator: Operator, approval_id: str) -> Mapping[str, Any]:
        """What helps to decide: calls like it, the tool, where values come from, and why policy asks."""
        found = await asyncio.to_thread(self._around, operator, approval_id)
        if found is None:
            raise Refused("not_found", approval_id[:64])
        approval, kept, args, about = found
        tool = self._tool(approval.target)
        if tool is not None and isinstance(args, dict) and approval.state == "pending":
            about["explanation"] = await self._why(approval, kept, tool, args)
        return about

    def _around(
        self, operator: Operator, approval_id: str
    ) -> tuple[Approval, Snapshot, Json, dict[str, Any]] | None:
        with readable(), self._database.reading() as connection:
            found = rows.load(connection, approval_id)
            if found is None or found.tenant != operator.tenant:
                return None
            kept = _snapshot.decode(found.facts_json)
            same = lookup.like(connection, found, _LIKE)
            # The agent's own come first: what another does with the same tool says less.
            near = sorted(same, key=lambda each: each.agent != found.agent)
            sealed = lookup.sealed(connection, [approval_id, *(each.id for each in near)])
        may = operator.role in chains.VOTERS
        last = next(
            (each for each in near if each.id in sealed and each.state not in ("rejected", "expired")), None
        )
        tally: dict[str, int] = {}
        for each in same:
            tally[each.state] = tally.get(each.state, 0) + 1
        tool = self._tool(found.target)
        row = sealed.get(approval_id)
        whole: Json = None
        if may and row is not None:
            try:
                opened = self._key.open(
                    f"approval/{approval_id}", Sealed(row.key_id, row.nonce, row.ciphertext)
                )
                whole = orjson.loads(opened)
            except Unreadable:
                whole = None
        about = {
            "similar": [shown(each) for each in near[:8]],
            "tally": tally,
            "last": {
                "id": last.id, "state": last.state, "agent": last.agent, "opened": last.opened_ns,
                "arguments": self._arguments(last, sealed[last.id]) if may else None,
            } if last is not None else None,
            "provenance": kept.provenance,
            "no_grant": _no_grant(tool, kept),
            "tool": _described(tool) if tool is not None else None,
            "explanation": None,
        }  # fmt: skip
        return found, kept, whole, about

    async def _why(
        self, approval: Approval, kept: Snapshot, tool: Tool, args: Json
    ) -> Mapping[str, Any] | None:
        facts = Facts(slow=kept.slow, fast=kept.fast, provenance=kept.provenance)
        ask = Ask(
            principal=kept.principal, surface="admin", kind=tool.kind, upstream=tool.upstream, name=tool.name,
            args=args, session=approval.session, call_id=approval.call_id,
        )  # fmt: skip
        try:
            call, _ = await pipeline.reviewed(self._parts(), ask, facts)
        except Refused:
            return None
        hidden = redacted(args, tool.manifest.sensitive)
        try:
            said: Mapping[str, Any] = await asyncio.get_running_loop().run_in_executor(
                self._explaining,
                lambda: msgspec.to_builtins(
                    explain_call(self._own_policy(), "call", call, facts, shown_args=hidden)
                ),
            )
        except Exception:
            logger.exception("a held call cannot be explained")
            return None
        return {**said, "revision": self._bundle().revision}

    # -- decisions

    async def explain(self, tenant: str, call_id: str) -> Mapping[str, Any]:
        """Why a recorded call was decided as it was, under the policy in force; ``missing`` says why not."""
        return await asyncio.get_running_loop().run_in_executor(
            self._explaining, self._explain, tenant, call_id
        )

    def _explain(self, tenant: str, call_id: str) -> Mapping[str, Any]:
        with readable():
            found = self._inputs.one(call_id, tenant)
        if found is None or found.call is None:
            return {"missing": found.missing if found is not None else "not_asked"}
        policy = self._own_policy()
        call, said = decided(policy, found)
        args = display.redact(call.args, found.sensitive)
        stage = explain_call(policy, "call", call, found.facts, shown_args=args)
        return {
            **msgspec.to_builtins(stage),
            "verdict": said.verdict,
            "code": said.code,
            "revision": policy.revision,
            "recorded_revision": found.said.revision,
        }

    def _own_policy(self) -> EmbeddedPolicy:
        bundle = self._bundle()
        if self._policy is None or self._policy.bundle is not bundle:
            self._policy = EmbeddedPolicy(bundle, memoise=False)
        return self._policy

    # -- what is configured

    def agents(self, tenant: str) -> Sequence[Mapping[str, Any]]:
        return [
            {
                "name": name, "owner": each.owner, "labels": list(each.labels), "mode": each.mode,
                "environment": each.environment,
            }
            for name, each in self._config().agents.items()
            if each.tenant == tenant
        ]  # fmt: skip

    def modules(self) -> Sequence[Mapping[str, Any]]:
        """The rules in force, without their text."""
        return [_module(each) for each in self._bundle().rules]

    def module(self, module_id: str) -> Mapping[str, Any] | None:
        found = next((each for each in self._bundle().rules if each.id == module_id), None)
        return None if found is None else {**_module(found), "text": found.text}

    def definition(self, kind: str, target: str) -> Mapping[str, Any] | None:
        """What is listed of a tool and how it differs from what was accepted. Blocks."""
        _, known = self._pins.load()
        # A template is a resource everywhere but here.
        kinds = ("resource", "template") if kind == "resource" else (kind,)
        row = next((each for each in known if each.target == target and each.kind in kinds), None)
        config = self._config().upstreams.get(row.upstream) if row is not None else None
        if row is None or config is None:
            return None
        accepted, listed = self._pins.definitions(row)
        parsed = orjson.loads(listed)
        pin = judged(row, config.pins)
        before = _lines(orjson.loads(accepted)) if accepted is not None else []
        after = _lines(parsed) if row.listed else []
        return {
            "target": row.target, "kind": row.kind, "name": row.name, "upstream": row.upstream,
            "state": pin.state, "flags": list(pin.flags), "quarantined": pin.quarantined,
            "hash": row.listed_hash, "accepted_hash": row.accepted_hash, "accepted_by": row.accepted_by,
            "accepted": row.accepted_ns, "rejected_by": row.rejected_by, "rejected": row.rejected_ns,
            "seen": row.seen_ns, "listed": row.listed, "definition": parsed,
            "concealed": concealed.findings(parsed),
            "diff": list(difflib.unified_diff(before, after, "accepted", "listed", lineterm="", n=3)),
        }  # fmt: skip

    def _tool(self, target: str) -> Tool | None:
        upstream, _, name = target.partition("/")
        try:
            return self._parts().catalog.resolve("tool", upstream, name)
        except Refused:
            return None


def _no_grant(tool: Tool | None, kept: Snapshot) -> str:
    """Why similar calls cannot be let through for a while; "" when they can."""
    if tool is None:
        return "the tool is not what it was"
    private = grants.confidentiality(tool, Facts(slow=kept.slow, fast=kept.fast))
    return grants.forbidden(tool.manifest.risk, tool.manifest.effects, private)


def _described(tool: Tool) -> Mapping[str, Any]:
    manifest = tool.manifest
    description = ""
    if tool.definition_json:
        description = str(orjson.loads(tool.definition_json).get("description") or "")
    return {
        "target": tool.target, "risk": manifest.risk, "effects": list(manifest.effects),
        "domain": manifest.domain, "source": manifest.source, "idempotent": manifest.idempotent,
        "cost_micro_usd": manifest.cost_micro_usd, "description": description[:2000],
        "schema_hash": tool.schema_hash, "sensitive": list(manifest.sensitive),
        "undo": manifest.extra.get("undo"), "verified": manifest.verify is not None,
    }  # fmt: skip


def _module(module: Any) -> Mapping[str, Any]:
    meta = module.meta
    return {
        "id": module.id, "title": meta.title, "description": meta.description, "file": module.file,
        "owner": meta.custom.owner, "severity": meta.custom.severity, "mode": meta.custom.mode,
        "phase": meta.custom.phase, "codes": list(meta.custom.codes),
        "scope": {name: value for name, value in msgspec.to_builtins(meta.custom.scope).items() if value},
    }  # fmt: skip


def _lines(definition: Json) -> list[str]:
    """A definition for reading: sorted, one member a line, long texts broken where they break themselves."""
    text = orjson.dumps(definition, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode()
    return text.replace("\\n", "\\n\n").split("\n")
