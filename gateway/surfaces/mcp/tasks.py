"""Held calls as tasks: the extension ``io.modelcontextprotocol/tasks`` of revision 2026-07-28.

A client that declares it is told at once that its call has become a task, and follows the task instead of
calling again. The task *is* the approval: its id, durable before it is told. When people have agreed, the
next look at the task makes the call, with the looker's own credential, exactly as the same call again would;
so nothing happens on behalf of a client that is gone, and nothing that it may not do any more.

Source: github.com/modelcontextprotocol/ext-tasks, specification/draft/tasks.md (August 2026). The tasks of
2025-11-25 are another protocol, in which the *client* turns any call into a task; they are not offered.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from gateway import pipeline
from gateway.errors import Refused
from gateway.model import Answer, Ask, Principal, Refusal
from gateway.ports import HeldCall, HeldCalls, Parts
from gateway.surfaces.mcp import answers, envelope, protocol
from gateway.surfaces.mcp.changes import Outbox
from gateway.surfaces.mcp.envelope import Rejected, Reply
from gateway.surfaces.mcp.listeners import Holds

POLL_MS: Final = 2_000
GRACE_S: Final = 0.5
"""How long a look at a task waits for a call that it has set off, in seconds."""

KEEP_S: Final = 600.0
"""How long the result of a task is kept after the call could have been made, in seconds."""

MAX_KEPT: Final = 512
MAX_KEPT_BYTES: Final = 64 * 1024 * 1024
MAX_WATCHED: Final = 64
"""Tasks that one ``subscriptions/listen`` may name."""

_WATCH_S: Final = 0.5
_ENDED: Final = ("completed", "failed", "cancelled")
_TOOL: Final = "tools/call"

# Tenant, agent, credential, id of the task: with another credential it is a call of another session, whose
# answer is not this one's, nor its refusal the end of this task.
_Key = tuple[str, str, str, str]


class _Run:
    """The call behind a task, under way or done in this process."""

    __slots__ = ("again_at", "answer", "size", "task")

    def __init__(self, task: asyncio.Task[Answer]) -> None:
        self.task = task
        self.answer: bytes | None = None  # as the JSON member ``"result":…`` or ``"error":…``
        self.again_at = 0.0  # when to try again what could not be done for the moment
        self.size = 0


class Tasks:
    """All tasks of this front. What is kept here are results; everything else is the queue's."""

    def __init__(self, held: HeldCalls | None, parts: Callable[[], Parts]) -> None:
        self._held = held
        self._parts = parts
        self._runs: OrderedDict[_Key, _Run] = OrderedDict()
        self._bytes = 0

    @property
    def offered(self) -> bool:
        return self._held is not None and self._held.offered

    async def created(self, principal: Principal, answer: Answer) -> dict[str, Any] | None:
        """The result that makes a task of a held call; ``None`` when it cannot be one."""
        assert answer.refusal is not None and answer.refusal.approval is not None
        try:
            found = await self._desk().look(principal, answer.refusal.approval)
        except Refused:
            return None  # somebody else's approval of the same bytes cannot be: better pending than wrong
        if found.ask is None:
            return None
        told = {"resultType": "task", **_task(found, "working", found.message)}
        told["_meta"] = {protocol.META_DECISION: answers.facts_of(answer, answer.refusal)}
        return told

    async def get(self, principal: Principal, task_id: str) -> bytes:
        """A task as it is, with its result inside when it has one; JSON."""
        found, status, payload = await self._seen(principal, task_id)
        return _told({"resultType": "complete", **_task(found, status, _message(found, status))}, payload)

    async def known(self, principal: Principal, task_id: str) -> None:
        """Raise ``Rejected`` unless it is a task of this caller."""
        await self._look(principal, task_id)

    async def cancel(self, principal: Principal, task_id: str) -> None:
        """Take a task back; one that is being carried out goes on to its outcome."""
        found, status, _ = await self._seen(principal, task_id, quiet=True)
        if status in _ENDED:
            raise _invalid(f"Cannot cancel the task: it is {status} already.")
        try:
            await self._desk().cancel(principal, found.id)
        except Refused as refused:
            if refused.code == "insufficient_scope":
                raise
            raise _invalid("Cannot cancel the task: it has ended.") from None

    def watch(self, outbox: Outbox, task_ids: list[str], holds: Holds) -> asyncio.Task[None]:
        """Tell a client when one of its tasks changes, and carry out what is approved, until cancelled.

        Or until its credential holds no more: the stream of a client that reads nothing finds that out late.
        """
        return asyncio.ensure_future(self._watch(outbox, task_ids, holds))

    async def mine(self, principal: Principal, task_ids: object) -> list[str]:
        """Those of the named tasks that are the caller's own; the others are left out."""
        if not isinstance(task_ids, list) or not all(isinstance(each, str) for each in task_ids):
            raise _invalid("'taskIds' must be a list of task ids.")
        if len(task_ids) > MAX_WATCHED:
            raise _invalid(f"At most {MAX_WATCHED} tasks.")
        found = []
        for each in dict.fromkeys(task_ids):
            try:
                await self.known(principal, each)
            except Refused:
                continue
            found.append(each)
        return found

    # ---------------------------------------------------------------------------------------- inside

    def _desk(self) -> HeldCalls:
        assert self._held is not None
        return self._held

    async def _look(self, principal: Principal, task_id: str) -> HeldCall:
        try:
            return await self._desk().look(principal, task_id)
        except Refused:
            # Not there and not yours are the same, so that guessing ids finds out nothing.
            raise Rejected(
                "not_found", "Failed to retrieve task: Task not found", status=200,
                rpc=protocol.INVALID_PARAMS,
            ) from None  # fmt: skip

    async def _seen(
        self, principal: Principal, task_id: str, *, quiet: bool = False
    ) -> tuple[HeldCall, str, bytes]:
        """A task, its status, and its result; sets off what may be carried out now, unless ``quiet``."""
        # A token without its scopes may look, and sets off nothing: its refusal would be the task's result.
        quiet = quiet or bool(principal.missing_scopes)
        found = await self._look(principal, task_id)
        key = (principal.tenant, principal.agent, principal.credential, found.id)
        run = self._runs.get(key)
        if run is None or run.answer is None:
            if not quiet and found.state == "ready" and found.ask is not None and self._may_start(run):
                run = self._start(key, found.ask)
            if run is not None and run.answer is None:
                await asyncio.wait((run.task,), timeout=0 if quiet else GRACE_S)
                if run.task.done():
                    found = await self._look(principal, task_id)
                    self._finished(key, run, found)
        if run is not None and run.answer is not None:
            return found, _status_of(run.answer), run.answer
        if found.state == "cancelled":
            return found, "cancelled", b""
        if found.state != "over":
            return found, "working", b""
        assert found.refusal is not None
        return found, "completed", _refused(found.refusal)

    def _may_start(self, run: _Run | None) -> bool:
        return run is None or (run.task.done() and self._parts().clock.monotonic() >= run.again_at)

    def _start(self, key: _Key, ask: Ask) -> _Run:
        run = _Run(asyncio.ensure_future(pipeline.call(self._parts(), ask)))
        self._forget(key)
        self._runs[key] = run
        while len(self._runs) > MAX_KEPT or self._bytes > MAX_KEPT_BYTES:
            # A call under way goes on without this; only its answer is not kept.
            self._forget(next(iter(self._runs)))
        asyncio.get_running_loop().call_later(KEEP_S, self._forget, key, run)
        return run

    def _finished(self, key: _Key, run: _Run, found: HeldCall) -> None:
        if run.answer is not None or run.task.cancelled():
            return
        answer = run.task.result()
        refusal = answer.refusal
        undecided = found.state in ("waiting", "ready", "under_way")
        if refusal is not None and undecided and (refusal.retryable or refusal.approval is not None):
            # Nothing is decided by a gateway that is busy, or by people who have to look once more.
            run.again_at = self._parts().clock.monotonic() + (refusal.retry_after_ms or POLL_MS) / 1000
            return
        reply = answers.reply(answer, b"0", _TOOL, modern=True)
        run.answer = envelope.member(reply.body, b"0")
        run.size = len(run.answer)
        if self._runs.get(key) is run:
            self._bytes += run.size

    def _forget(self, key: _Key, only: _Run | None = None) -> None:
        run = self._runs.get(key)
        if run is not None and only in (None, run):
            del self._runs[key]
            self._bytes -= run.size

    async def _watch(self, outbox: Outbox, task_ids: list[str], holds: Holds) -> None:
        told: dict[str, object] = {}
        left = set(task_ids)
        while left:
            principal = await holds()
            if principal is None:
                return  # a revoked key carries out nothing more
            for task_id in sorted(left):
                try:
                    found, status, payload = await self._seen(principal, task_id)
                except Refused:
                    left.discard(task_id)  # its credential is another one now
                    continue
                if told.get(task_id) == (now := (status, found.state, found.message)):
                    continue
                told[task_id] = now
                outbox.task(_told(_task(found, status, _message(found, status)), payload))
                if status in _ENDED:
                    left.discard(task_id)
            await asyncio.sleep(_WATCH_S)


def _task(found: HeldCall, status: str, message: str) -> dict[str, Any]:
    ttl_ns = found.until_ns + int(KEEP_S * 1e9) - found.opened_ns
    return {
        "taskId": found.id,
        "status": status,
        "statusMessage": message,
        "createdAt": _moment(found.opened_ns),
        "lastUpdatedAt": _moment(max(found.changed_ns, found.opened_ns)),
        "ttlMs": max(ttl_ns // 1_000_000, 0),
        "pollIntervalMs": POLL_MS,
    }


def _message(found: HeldCall, status: str) -> str:
    return "It has ended; see its result." if status in ("completed", "failed") else found.message


def _moment(ns: int) -> str:
    return datetime.fromtimestamp(ns // 1_000_000 / 1e3, UTC).isoformat(timespec="milliseconds")


def _told(members: dict[str, Any], payload: bytes) -> bytes:
    """``members`` with the bytes of a result as they are."""
    raw = orjson.dumps(members)
    return b"".join((raw[:-1], b",", payload, b"}")) if payload else raw


def _status_of(payload: bytes) -> str:
    return "failed" if payload.startswith(b'"error"') else "completed"


def _refused(refusal: Refusal) -> bytes:
    answer = Answer(call_id=refusal.approval or "", action="block", refusal=refusal)
    return envelope.member(answers.refused(answer, refusal, b"0", _TOOL, modern=True).body, b"0")


def _invalid(message: str) -> Rejected:
    return Rejected("invalid_request", message, status=200, rpc=protocol.INVALID_PARAMS)


def declared(capabilities: object) -> bool:
    """Whether a client's capabilities have the extension."""
    extensions = capabilities.get("extensions") if isinstance(capabilities, dict) else None
    return isinstance(extensions, dict) and isinstance(extensions.get(protocol.TASKS), dict)


def missing() -> Rejected:
    """What a client gets that asks for tasks without declaring them."""
    wanted: dict[str, Any] = {"requiredCapabilities": {"extensions": {protocol.TASKS: {}}}}
    return Rejected(
        "invalid_request", "Missing required client capability", rpc=protocol.MISSING_CAPABILITY, data=wanted
    )


def acknowledged(id_json: bytes) -> Reply:
    return Reply(envelope.result(id_json, b'{"resultType":"complete"}'))
