"""Telling others what happens to approvals, and hearing from them what a person decided, both signed.

A delivery is signed like Slack's requests are: HMAC-SHA256 over a version, the time and the body as it is on
the wire, with a key id beside it so that a secret can be replaced. What is older than 300 s is refused, and
so is what was delivered before, to the byte. The two directions have different versions, so that a delivery
cannot be sent back as a decision.

Slack itself is a party too: ``slack.py`` has its messages and what comes of its buttons.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Literal

import httpx
import msgspec
import orjson

from gateway.approvals import slack
from gateway.approvals.channels import Delivery
from gateway.approvals.slack import Preview
from gateway.approvals.values import EnvelopeNotice, Notice

if TYPE_CHECKING:
    from gateway.breakers.trip import Trip

logger = logging.getLogger("wardgate.approvals")

TOLERANCE_S: Final = 300
OUT: Final = "v1"
IN: Final = "c1"
MAX_WAITING: Final = 1000
MAX_SEEN: Final = 10_000
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
    style: Literal["wardgate", "slack"] = "wardgate"
    arguments: bool = False  # Slack: show what would be sent, and let people approve there
    link: str = ""  # where people look at an approval; {id} is its id


def sign(secret: bytes, at_s: int, body: bytes, version: str = OUT) -> str:
    """``v1=`` and the hex HMAC over ``v1:<seconds>:`` and the body, byte for byte."""
    said = f"{version}:{at_s}:".encode() + body
    return f"{version}={hmac.new(secret, said, sha256).hexdigest()}"


def verified(hook: Hook, key_id: str, at: str, signature: str, body: bytes, now_s: float) -> bool:
    """Whether a decision comes from this party, and just now."""
    own = hook.style == "wardgate"
    if (own and key_id != hook.key_id) or not (at.isascii() and at.isdigit() and len(at) <= 12):
        return False
    if abs(now_s - int(at)) > TOLERANCE_S:
        return False
    wanted = sign(hook.secret, int(at), body, IN if own else slack.VERSION)
    return hmac.compare_digest(wanted.encode(), signature.encode())


class Seen:
    """Signatures that were taken. One that is too old to be taken need not be remembered."""

    def __init__(self, most: int = MAX_SEEN) -> None:
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._most = most
        self._lock = threading.Lock()

    def first(self, name: str, signature: str, now_s: float) -> bool:
        """Whether this is the first time; also ``False`` when there are too many to tell."""
        with self._lock:
            while self._seen and next(iter(self._seen.values())) < now_s - 2 * TOLERANCE_S:
                self._seen.popitem(last=False)
            if (name, signature) in self._seen or len(self._seen) >= self._most:
                return False
            self._seen[(name, signature)] = now_s
            return True


def payload(notice: Notice) -> bytes:
    """What is told: never arguments, which may be nobody's business outside."""
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


def payload_of_envelope(notice: EnvelopeNotice) -> bytes:
    """A step of break-glass: what is declared, who is behind it, and its opening."""
    return orjson.dumps({"event": notice.event, "envelope": notice.said})


def payload_of_trip(trip: Trip, owner: str | None) -> bytes:
    """A breaker that moved, as it is told: ids and numbers, and the sentence of the detector."""
    said = {
        "event": "breaker",
        "trip": {
            "id": trip.id, "at_ns": trip.at_ns, "tenant": trip.key.tenant, "agent": trip.agent,
            "owner": owner, "session": trip.session, "scope": trip.key.scope,
            "name": trip.key.name, "part": trip.key.part,
            "detector": trip.detector, "statistic": trip.statistic, "threshold": trip.threshold,
            "before": trip.before, "after": trip.after, "sentence": trip.sentence,
            "since_ns": trip.since_ns, "until_ns": trip.until_ns, "person": trip.person,
        },
    }  # fmt: skip
    return orjson.dumps(said)


class Notifier:
    """Delivers in the background, in order for each party; what cannot be delivered is logged and dropped.

    Each party has a queue and a task of its own, so a dead one holds up nobody else. People not hearing of an
    approval lets nothing through: it waits, and then expires. ``preview`` gives what may be shown of what
    would be sent.
    """

    def __init__(
        self, now_s: Callable[[], float], preview: Callable[[Notice], Awaitable[Preview]] | None = None
    ) -> None:
        self._now_s = now_s
        self._preview = preview
        self._lines: dict[str, _Line] = {}
        self._changed = asyncio.Event()

    def configure(self, hooks: Mapping[str, Hook]) -> None:
        """On the event loop's thread. What waits for a party that stays is still delivered."""
        for name in self._lines.keys() - hooks.keys():
            del self._lines[name]
        for name, hook in hooks.items():
            line = self._lines.setdefault(name, _Line(hook))
            line.hook = hook
        self._changed.set()

    def hook(self, name: str) -> Hook | None:
        line = self._lines.get(name)
        return line.hook if line is not None else None

    def deliveries(self) -> list[Delivery]:
        """How each party does, for the metrics."""
        return [line.delivery() for line in self._lines.values()]

    def tell(self, notice: Notice) -> None:
        """On the event loop's thread; never blocks."""
        for line in self._lines.values():
            if line.hook.tenant == notice.approval.tenant and (
                line.hook.style == "wardgate" or notice.event in slack.EVENTS
            ):
                line.put(notice)

    def tell_envelope(self, notice: EnvelopeNotice) -> None:
        """That break-glass is asked for, open or over, for the parties of its tenant; as ``tell`` does."""
        for line in self._lines.values():
            if line.hook.tenant == notice.tenant and line.hook.style == "wardgate":
                line.put(payload_of_envelope(notice))

    def tell_trip(self, trip: Trip, owner: str | None) -> None:
        """That a breaker guards or stops somebody, for the parties of its tenant; as ``tell`` does."""
        if trip.after == "throttled":
            return
        for line in self._lines.values():
            if line.hook.tenant == trip.key.tenant and line.hook.style == "wardgate":
                # Agents that trip again and again must not take the place of approvals people have to see.
                if line.waiting.qsize() >= MAX_WAITING // 2:
                    line.dropped += 1
                else:
                    line.put(payload_of_trip(trip, owner))

    async def run(self) -> None:
        """For as long as the gateway runs."""
        tasks: dict[_Line, asyncio.Task[None]] = {}
        try:
            async with httpx.AsyncClient(follow_redirects=False, trust_env=False) as http:
                while True:
                    self._changed.clear()
                    current = set(self._lines.values())
                    for line in tasks.keys() - current:
                        tasks.pop(line).cancel()
                    for line in current - tasks.keys():
                        tasks[line] = asyncio.create_task(self._serve(http, line))
                    await self._changed.wait()
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _serve(self, http: httpx.AsyncClient, line: _Line) -> None:
        while True:
            notice = await line.waiting.get()
            try:
                body = notice if isinstance(notice, bytes) else await self._body(line.hook, notice)
                if await self._deliver(http, line, body):
                    line.delivered += 1
                    line.last_s = self._now_s()
                else:
                    line.failed += 1
            except Exception as error:  # noqa: BLE001 - one notice that cannot be told must not end the line
                line.failed += 1
                logger.warning("webhook %s: %s", line.hook.name, type(error).__name__)

    async def _body(self, hook: Hook, notice: Notice) -> bytes:
        if hook.style == "wardgate":
            return payload(notice)
        shown = Preview()
        if hook.arguments and notice.event in slack.ASKS and self._preview is not None:
            shown = await self._preview(notice)
        return orjson.dumps(slack.message(notice, shown, hook.link))

    async def _deliver(self, http: httpx.AsyncClient, line: _Line, body: bytes) -> bool:
        for pause in (*_PAUSES_S, None):
            hook = line.hook
            at = int(self._now_s())
            headers = {"content-type": "application/json"}
            if hook.style == "wardgate":
                headers["wardgate-key-id"] = hook.key_id
                headers["wardgate-timestamp"] = str(at)
                headers["wardgate-signature"] = sign(hook.secret, at, body)
            try:
                answer = await http.post(hook.url, content=body, headers=headers, timeout=hook.timeout_s)
                if answer.status_code < 500 and answer.status_code != 429:
                    if not answer.is_success:
                        logger.warning("webhook %s answered %d", hook.name, answer.status_code)
                    return answer.is_success
                why = str(answer.status_code)
            except httpx.HTTPError as error:
                why = type(error).__name__
            if pause is None:
                logger.warning("webhook %s: given up: %s", hook.name, why)
                return False
            line.retried += 1
            await asyncio.sleep(pause)
        raise AssertionError


class _Line:
    """What waits for one party, and how it went so far."""

    def __init__(self, hook: Hook) -> None:
        self.hook = hook
        self.waiting: asyncio.Queue[Notice | bytes] = asyncio.Queue(MAX_WAITING)
        self.delivered = self.failed = self.retried = self.dropped = 0
        self.last_s = 0.0

    def put(self, notice: Notice | bytes) -> None:
        try:
            self.waiting.put_nowait(notice)
        except asyncio.QueueFull:
            self.dropped += 1

    def delivery(self) -> Delivery:
        return Delivery(
            name=self.hook.name,
            results={
                "delivered": self.delivered, "failed": self.failed, "retried": self.retried,
                "dropped": self.dropped,
            },
            waiting=self.waiting.qsize(),
            last_s=self.last_s,
        )  # fmt: skip
