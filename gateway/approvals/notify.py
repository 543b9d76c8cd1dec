"""Telling others what happens to approvals, and hearing from them what a person decided, both signed.

A delivery is signed like Slack's requests are: HMAC-SHA256 over a version, the time and the body as it is on
the wire, with a key id beside it so that a secret can be replaced. What is older than 300 s is refused. The
two directions have different versions, so that a delivery cannot be sent back as a decision.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import httpx
import msgspec
import orjson

from gateway.approvals.values import EnvelopeNotice, Notice

logger = logging.getLogger("wardgate.approvals")

TOLERANCE_S: Final = 300
OUT: Final = "v1"
IN: Final = "c1"
MAX_WAITING: Final = 1000
_PAUSES_S: Final = (0.5, 2.0, 8.0)


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """One party that is told, and that may pass on what people decide."""

    name: str
    url: str
    secret: bytes
    key_id: str
    timeout_s: float = 5.0
    tenant: str = "default"
    actors: Mapping[str, str] = {}  # how the party calls people → operators


def sign(secret: bytes, at_s: int, body: bytes, version: str = OUT) -> str:
    """``v1=`` and the hex HMAC over ``v1:<seconds>:`` and the body, byte for byte."""
    said = f"{version}:{at_s}:".encode() + body
    return f"{version}={hmac.new(secret, said, sha256).hexdigest()}"


def verified(hook: Hook, key_id: str, at: str, signature: str, body: bytes, now_s: float) -> bool:
    """Whether a decision comes from this party, and just now."""
    if key_id != hook.key_id or not (at.isascii() and at.isdigit() and len(at) <= 12):
        return False
    if abs(now_s - int(at)) > TOLERANCE_S:
        return False
    return hmac.compare_digest(sign(hook.secret, int(at), body, IN).encode(), signature.encode())


def payload(notice: Notice | EnvelopeNotice) -> bytes:
    """What is told: never arguments, which may be nobody's business outside."""
    if isinstance(notice, EnvelopeNotice):
        return orjson.dumps({"event": notice.event, "envelope": notice.said})
    approval = notice.approval
    said: dict[str, Any] = {
        "event": notice.event,
        "approval": {
            "id": approval.id,
            "version": approval.version,
            "digest": approval.digest,
            "state": approval.state,
            "tenant": approval.tenant,
            "agent": approval.agent,
            "owner": approval.owner,
            "envelope": approval.envelope,
            "target": approval.target,
            "risk": approval.risk,
            "codes": sorted({each.code for each in approval.requirements}),
            "chains": sorted({each.chain for each in approval.requirements}),
            "opened_ns": approval.opened_ns,
            "decide_by_ns": approval.decide_by_ns,
        },
    }
    return orjson.dumps(said)


class Notifier:
    """Delivers in the background, in order for each party; what cannot be delivered is logged and dropped.

    People not hearing of an approval lets nothing through: it waits, and then expires.
    """

    def __init__(self, now_s: Any) -> None:
        self._now_s = now_s
        self._hooks: dict[str, Hook] = {}
        self._waiting: asyncio.Queue[Notice | EnvelopeNotice] = asyncio.Queue(MAX_WAITING)

    def configure(self, hooks: Mapping[str, Hook]) -> None:
        self._hooks = dict(hooks)

    def hook(self, name: str) -> Hook | None:
        return self._hooks.get(name)

    def tell(self, notice: Notice | EnvelopeNotice) -> None:
        """On the event loop's thread; never blocks."""
        if not self._hooks:
            return
        try:
            self._waiting.put_nowait(notice)
        except asyncio.QueueFull:
            logger.warning("a notice about an approval was dropped: too many wait")

    async def run(self) -> None:
        """For as long as the gateway runs."""
        async with httpx.AsyncClient(follow_redirects=False, trust_env=False) as http:
            while True:
                notice = await self._waiting.get()
                body = payload(notice)
                told = notice if isinstance(notice, EnvelopeNotice) else notice.approval
                hooks = [hook for hook in self._hooks.values() if hook.tenant == told.tenant]
                await asyncio.gather(*(self._deliver(http, hook, body) for hook in hooks))

    async def _deliver(self, http: httpx.AsyncClient, hook: Hook, body: bytes) -> None:
        for pause in (*_PAUSES_S, None):
            at = int(self._now_s())
            headers = {
                "content-type": "application/json",
                "wardgate-key-id": hook.key_id,
                "wardgate-timestamp": str(at),
                "wardgate-signature": sign(hook.secret, at, body),
            }
            try:
                answer = await http.post(hook.url, content=body, headers=headers, timeout=hook.timeout_s)
                if answer.status_code < 500:
                    if not answer.is_success:
                        logger.warning("webhook %s answered %d", hook.name, answer.status_code)
                    return
                why = str(answer.status_code)
            except httpx.HTTPError as error:
                why = type(error).__name__
            if pause is None:
                logger.warning("webhook %s: given up: %s", hook.name, why)
                return
            await asyncio.sleep(pause)
