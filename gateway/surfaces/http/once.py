"""Idempotency keys (draft-ietf-httpapi-idempotency-key-header): the same request is carried out once.

What is kept for a day is the answer. What protects the effect is older than the answer: the row of the key is
on disk before the call, and names its id, so that after a crash the journal decides. A call the journal does
not know never left the gateway; one whose outcome nobody knows is answered so, and never sent again.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from fastapi import Response
from starlette.concurrency import run_in_threadpool

from gateway import strictjson
from gateway.digest import new_id
from gateway.errors import JournalError
from gateway.model import Json
from gateway.storage.idempotency import Begun, Kept
from gateway.surfaces.doors import NotAdmitted
from gateway.surfaces.http import replies
from gateway.surfaces.http.deps import HttpDeps, Past
from gateway.surfaces.http.front import Caller
from gateway.surfaces.http.models import MAX_KEY

logger = logging.getLogger("wardgate.http")

RETRY_MS = 1000


class Made(NamedTuple):
    """An answer, and whether it stands: a refusal that may end in another one later does not."""

    kept: Kept
    stands: bool


Make = Callable[[str], Awaitable[Made]]
"""Carries the request out under a call id."""

Replay = Callable[[Kept, str], Response]
"""Repeats what was answered for a call id."""


def key_of(value: bytes | None) -> str | None:
    """The key of an ``Idempotency-Key`` header: a structured string, or the bare text real clients send."""
    if value is None:
        return None
    text = value.decode("latin-1")
    if text.startswith('"'):
        if len(text) < 2 or not text.endswith('"'):
            raise NotAdmitted("invalid_request", "The Idempotency-Key is not a string.", status=400)
        text = text[1:-1]
        # Two spellings of one key would be two keys to a reader that does not unescape.
        if '"' in text or "\\" in text:
            raise NotAdmitted("invalid_request", "The Idempotency-Key has escapes in it.", status=400)
    if not text or len(text) > MAX_KEY or not text.isascii() or not text.isprintable():
        raise NotAdmitted(
            "invalid_request", f"The Idempotency-Key must be 1 to {MAX_KEY} printable characters.", status=400
        )
    return text


async def once(
    deps: HttpDeps, caller: Caller, operation: str, body: Json, make: Make, replay: Replay
) -> Response:
    """Carry a request out, or say what became of it when its key has been seen."""
    key = key_of(caller.heads.get(b"idempotency-key"))
    if key is None:
        return replies.respond((await make(new_id())).kept)
    request = operation.encode() + b"\n" + strictjson.canonical(body)
    begun = await deps.keys.begin(caller.principal, key, request, new_id())
    if begun.state == "unfinished":
        past = await run_in_threadpool(deps.ledger.find, begun.call_id)
        if past is not None and not _nothing_happened(past):
            return replies.respond(_became(begun, past), replayed=True)
        begun = await deps.keys.again(begun, request, new_id())
    if begun.state == "new":
        return await _carry_out(deps, begun, make)
    if begun.state == "answered":
        if begun.answer is None:
            lost = replies.said("answer_not_kept", decision_id=begun.call_id, effect="done")
            return replies.respond(replies.of_problem(lost), replayed=True)
        return replay(begun.answer, begun.call_id)
    # Another request under the key of this one: which of the two was meant is not ours to guess.
    code = "key_reused" if begun.state == "other" else "key_in_use"
    deps.parts().journal.refused(code, "http", caller.principal, begun.call_id)
    deps.parts().telemetry.refused(code, "http")
    waits = RETRY_MS if code == "key_in_use" else None
    return replies.respond(replies.of_problem(replies.said(code, retry_after_ms=waits)))


async def _carry_out(deps: HttpDeps, begun: Begun, make: Make) -> Response:
    try:
        made = await make(begun.call_id)
    except BaseException:  # whatever it was: the journal knows what became of the call, the key does not
        deps.keys.abandon(begun)
        raise
    try:
        if made.stands:
            await deps.keys.finish(begun, made.kept)
        else:
            await deps.keys.forget(begun)
    except JournalError as fault:
        # The answer is good; only its repetition is lost, and the journal stands in for it.
        logger.error("the answer of call %s was not kept: %s", begun.call_id, fault)
    return replies.respond(made.kept)


def _nothing_happened(past: Past) -> bool:
    """Whether the call of a crashed request certainly had no effect, so that it may be made anew."""
    if not past.writes or past.refused or past.end == "not_sent":
        return True
    return past.end == "reconciled" and past.status == "not_executed"


def _became(begun: Begun, past: Past) -> Kept:
    if past.end in ("", "in_doubt"):
        said = replies.said("in_doubt", decision_id=begun.call_id, effect="unknown")
    else:
        said = replies.said("answer_not_kept", decision_id=begun.call_id, effect="done")
    return replies.of_problem(said)
