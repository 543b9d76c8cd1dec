"""``wardgate/session``: the gateway's own tool, by which a model sees what it may do and why it was refused.

It is a tool of a built-in upstream, so it goes the way of every call: policy decides, the journal records.
Three things are different. It is charged to no budget and works when a mandate has expired, because it is for
those who have nothing left. A mandate always covers it. And its answer holds nothing an outsider wrote: no
argument, no result, no words that a rule made of them; so it is trusted, and puts no label on the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from gateway import __version__, builtin_held
from gateway.desk import Desk
from gateway.journal.query import Query
from gateway.ledger import readable
from gateway.model import HELD_TOOL, OWN, OWN_TOOL, Call, Kind, Manifest, Outcome, Principal, Tool
from gateway.ports import Catalog, Clock, Dialogue, Subscriber, Upstreams
from gateway.reasons import REASONS
from gateway.upstreams.mcp.era import MODERN, Info

INFO: Final = Info(
    era="modern", version=MODERN, name=OWN, server_version=__version__, capabilities={"tools": {}}
)

_DEFINITION: Final = {
    "name": OWN_TOOL,
    "title": "What you may do here",
    "description": (
        "Shows what you have been given to do and what is left of it: objective, tools, bounds, expiry, "
        "budgets, labels and progress. With 'call', the decision id of one of your own calls that was "
        "refused, it says why and what would be accepted. It changes nothing and costs nothing."
    ),
    "inputSchema": {
        "type": "object",
        "properties": {
            "call": {
                "type": "string",
                "maxLength": 64,
                "description": "Decision id of one of your own calls.",
            }
        },
        "additionalProperties": False,
    },
    "annotations": {"readOnlyHint": True, "openWorldHint": False},
}
TOOL: Final = Tool(
    kind="tool",
    upstream=OWN,
    name=OWN_TOOL,
    target=f"{OWN}/{OWN_TOOL}",
    manifest=Manifest(
        risk="read", domain=OWN, idempotent=True, polling=True, integrity="trusted", source="operator",
        deadline_s=10.0,
    ),
    schema_hash="",
    definition_json=orjson.dumps(_DEFINITION),
)  # fmt: skip


class WithOwn:
    """Implements ``ports.Catalog``: what upstreams offer, and the gateway's own tools after it."""

    def __init__(self, catalog: Catalog, own: tuple[Tool, ...]) -> None:
        self._catalog = catalog
        self._own = own
        self._named = {tool.name: tool for tool in own}
        self._all: tuple[Sequence[Tool], tuple[Tool, ...]] = ((), own)

    @property
    def revision(self) -> str:
        return self._catalog.revision

    def resolve(self, kind: Kind, upstream: str, name: str) -> Tool:
        if kind == "tool" and upstream == OWN and name in self._named:
            return self._named[name]
        return self._catalog.resolve(kind, upstream, name)

    def tools(self, kind: Kind, upstream: str | None = None) -> Sequence[Tool]:
        if kind != "tool":
            return self._catalog.tools(kind, upstream)
        if upstream == OWN:
            return self._own
        found = self._catalog.tools(kind, upstream)
        if upstream is not None:
            return found
        before, made = self._all
        if before is not found:  # the same object until the list changes, as the port wants it
            made = (*found, *self._own)
            self._all = (found, made)
        return made

    def held(self) -> Sequence[Tool]:
        return self._catalog.held()


class OwnUpstream:
    """Implements ``ports.Upstreams``: answers the gateway's own tools, and hands on everything else."""

    def __init__(
        self,
        upstreams: Upstreams,
        desk: Desk,
        query: Query,
        clock: Clock,
        titles: Callable[[], Mapping[str, str]],
        look: builtin_held.Look,
        reply: builtin_held.Reply,
    ) -> None:
        """``titles`` gives the titles of the policy modules in force, by their ids.

        ``look`` and ``reply`` are of an agent's own held calls.
        """
        self._upstreams = upstreams
        self._desk = desk
        self._query = query
        self._clock = clock
        self._titles = titles
        self._look = look
        self._reply = reply

    async def execute(self, call: Call, dialogue: Dialogue | None) -> Outcome:
        if call.tool.upstream != OWN:
            return await self._upstreams.execute(call, dialogue)
        started = self._clock.now_ns()
        if call.tool.name == HELD_TOOL:
            if not builtin_held.readable(call.args):
                return _unreadable(builtin_held.REMEDY, started)
            told_of = await builtin_held.found(self._look, self._reply, call.principal, call.args)
            return Outcome(status="ok", result_json=_result(told_of), started_ns=started)
        wanted = call.args.get("call", "")
        if call.args.keys() - {"call"} or not isinstance(wanted, str) or len(wanted) > 64:
            remedy = "Give no arguments, or 'call' with the decision id of one of your own calls."
            return _unreadable(remedy, started)
        if wanted:
            found = await asyncio.to_thread(self._explained, call.principal, wanted)
            if not found["known"]:  # a refusal of a moment ago may be on its way to the journal
                await asyncio.sleep(_WRITTEN_S)
                found = await asyncio.to_thread(self._explained, call.principal, wanted)
        else:
            found = told(await self._desk.seen(call.session))
        return Outcome(status="ok", result_json=_result(found), started_ns=started)

    async def unsubscribe(self, who: Subscriber, upstream: str, uri: str) -> None:
        await self._upstreams.unsubscribe(who, upstream, uri)

    def ended(self, thread: str) -> None:
        self._upstreams.ended(thread)

    def _explained(self, principal: Principal, call_id: str) -> dict[str, Any]:
        """Why a call was refused. Somebody else's is answered like one that does not exist."""
        with readable():
            shown = self._query.show(call_id)
        first = shown.records[0] if shown is not None else {}
        whose = (first.get("tenant"), first.get("agent"), first.get("subject"))
        if whose != (principal.tenant, principal.agent, principal.subject):
            return {"call": call_id, "known": False, "message": "There is no such call of yours."}
        found: dict[str, Any] = {"call": call_id, "known": True, "tool": first.get("target")}
        if first.get("phase") != "refused":
            return {**found, "refused": False, "message": "This call was not refused."}
        code = first.get("code") or ""
        found |= {"refused": True, "code": code}
        rules = [each.get("rule") for each in first.get("findings") or () if each.get("code") == code]
        if rules and rules[0]:
            found["rule"] = rules[0]
            if title := self._titles().get(rules[0]):
                found["about"] = title
        reason = REASONS.get(code)
        # A rule may have made its words of what an outsider wrote, and this answer is trusted.
        found["message"] = reason.message if reason is not None else _SAID_BEFORE
        found["remedy"] = reason.remedy if reason is not None else _REMEDY
        return found


def told(seen: Mapping[str, Any]) -> dict[str, Any]:
    """Of a session what its model may read: nothing that a tool answered, and no ids of others."""
    mandate = seen["mandate"]
    found: dict[str, Any] = {
        "session": seen["id"],
        "status": seen["status"],
        "mandate": None,
        "left": {scope: _left(metrics) for scope, metrics in seen["budgets"].items()},
        "integrity": seen["integrity"],
        "confidentiality": seen["confidentiality"],
        "labels": seen["labels"],
        "calls": seen["calls"],
        "denials": seen["denials"],
        "progress": seen["progress"],
    }
    if mandate is not None:
        found["mandate"] = {name: mandate[name] for name in _SHOWN if name in mandate}
        found["mandate"]["milestones"] = [each["name"] for each in mandate.get("milestones", ())]
    return found


def _left(metrics: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    return {
        metric: {name: fact[name] for name in _NUMBERS if name in fact} for metric, fact in metrics.items()
    }


_WRITTEN_S: Final = 0.2
_NUMBERS: Final = ("left", "limit", "reserved", "window_s")
_SHOWN: Final = ("objective", "tools", "reads", "risks", "arguments", "horizon", "expires")
_SAID_BEFORE: Final = "A rule of this gateway refused it. Its words were in the answer to the call."
_REMEDY: Final = "Do what that answer said, or ask whoever gave you the work."


def _unreadable(remedy: str, started_ns: int) -> Outcome:
    return Outcome(status="not_sent", code="invalid_arguments", started_ns=started_ns, remedy=remedy)


def _result(found: Mapping[str, Any]) -> bytes:
    text = orjson.dumps(found).decode()
    return orjson.dumps({"content": [{"type": "text", "text": text}], "structuredContent": found})
