"""The ``Upstreams`` port: one peer for each configured upstream, and every fault as an outcome."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal

import msgspec
import orjson

from gateway.config import AssertionConfig
from gateway.config_upstream import UpstreamConfig
from gateway.errors import BadArguments, ConfigError, InDoubt, NotSent, Refused, UpstreamError
from gateway.model import Call, Json, Outcome, Status
from gateway.ports import Clock, Dialogue, Subscriber
from gateway.upstreams import peer
from gateway.upstreams.headers import ParamHeaders, param_headers
from gateway.upstreams.jsonrpc import Declined, Message, Request, loads, nonsense, plain, subscribe
from gateway.upstreams.mcp import rounds, shape
from gateway.upstreams.mcp.era import Info
from gateway.upstreams.mcp.http import HttpPeer
from gateway.upstreams.mcp.stdio import StdioPeer
from gateway.upstreams.openapi.peer import OpenApiPeer
from gateway.upstreams.peer import GATEWAY, UNSUBSCRIBE, Owner, Peer, Unusable
from gateway.upstreams.python import PythonPeer
from gateway.upstreams.secrets import assertion
from gateway.upstreams.secrets.assertion import Signer
from gateway.upstreams.secrets.credentials import Credentials, CredentialState, Keeper, Secret
from gateway.upstreams.wire import BodyTooLarge

logger = logging.getLogger("wardgate.upstreams")

ListKind = Literal["tool", "prompt", "resource", "template"]

LIST_S: Final = 30.0  # for one whole list
FIRST_CONTACT_S: Final = 5.0
MAX_PAGES: Final = 1000
MAX_ENTRIES: Final = 20_000
_SCHEMAS: Final = 20_000  # remembered header annotations

# (capability that must be declared, method, key of the list in the result)
_LISTS: Final[dict[ListKind, tuple[str, str, str]]] = {
    "tool": ("tools", "tools/list", "tools"),
    "prompt": ("prompts", "prompts/list", "prompts"),
    "resource": ("resources", "resources/list", "resources"),
    "template": ("resources", "resources/templates/list", "resourceTemplates"),
}


class _ResultHead(msgspec.Struct):
    """The two members of a result that say what kind of answer it is."""

    is_error: bool = msgspec.field(name="isError", default=False)
    result_type: str = msgspec.field(name="resultType", default="complete")


_head: Final = msgspec.json.Decoder(_ResultHead)


class UpstreamRegistry:
    """Build once from configuration; raises ``ConfigError`` for what cannot work.

    ``on_list_changed`` is called with the name of an upstream that says one of its lists changed,
    ``on_updated`` with the upstream, the subscriber and the URI of a resource that changed.
    """

    def __init__(
        self,
        upstreams: Mapping[str, UpstreamConfig],
        *,
        clock: Clock,
        result_bytes: int,
        assertion: AssertionConfig | None = None,
    ) -> None:
        self._clock = clock
        self._result_bytes = result_bytes
        self.on_list_changed: Callable[[str], None] = _ignore
        self.on_updated: Callable[[str, Subscriber, str], None] = _ignore_update
        self.policy_revision: Callable[[], str] = str  # in force, for assertions
        self._credentials = {name: Credentials(name, config) for name, config in upstreams.items()}
        self._asserted = {
            name: config.audience or config.url or ""
            for name, config in upstreams.items()
            if config.assertion
        }
        signed = assertion is not None and assertion.key_file is not None
        self._signer = Signer(assertion, clock) if assertion is not None and signed else None
        self._keeper = Keeper(
            (secret for each in self._credentials.values() for secret in each.secrets),
            (self._signer,) if self._signer is not None else (),
        )
        self._peers: dict[str, Peer] = {name: self._peer(name, config) for name, config in upstreams.items()}
        self._known: dict[str, Info] = {}
        self._headers: dict[str, ParamHeaders] = {}  # by schema hash
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False

    def _peer(self, name: str, config: UpstreamConfig) -> Peer:
        if config.openapi is not None:
            return OpenApiPeer(
                name, config, result_bytes=self._result_bytes, credentials=self._credentials[name]
            )
        if config.python is not None:
            return PythonPeer(name, config)
        if config.url is not None:
            return HttpPeer(
                name,
                config,
                result_bytes=self._result_bytes,
                events=self,
                credentials=self._credentials[name],
            )
        return StdioPeer(
            name, config, result_bytes=self._result_bytes, events=self, credentials=self._credentials[name]
        )

    # ------------------------------------------------------------------------------------ events

    def list_changed(self, upstream: str) -> None:
        self.on_list_changed(upstream)

    def updated(self, upstream: str, owner: Owner, uri: str) -> None:
        self.on_updated(upstream, Subscriber(*owner[:6]), uri)

    # ------------------------------------------------------------------------------------- life

    async def start(self) -> None:
        """First contact with all of them at once; one that is down shows in ``status`` and stops nobody.

        Raises ``ConfigError`` for one whose description cannot be used.
        """
        await self._keeper.start()
        at = asyncio.get_running_loop().time() + FIRST_CONTACT_S
        contacts = (self._contact(name, at) for name in self._peers)
        failures = await asyncio.gather(*contacts, return_exceptions=True)
        for name, failure in zip(self._peers, failures, strict=True):
            if isinstance(failure, Unusable):
                await self.close()  # no child of a gateway that does not start may be left
                raise ConfigError(f"upstreams.{name}: {failure.detail}")
            if failure is not None and not isinstance(failure, UpstreamError):
                raise failure

    async def close(self, drain_s: float = 0.0) -> None:
        """Refuse new calls, give those in flight ``drain_s``, then end sessions, children, connections."""
        self._closing = True
        try:
            async with asyncio.timeout(drain_s):
                await self._idle.wait()
        except TimeoutError:
            logger.warning("closing with %d calls in flight", self._in_flight)
        await asyncio.gather(*(each.close() for each in self._peers.values()))
        await self._keeper.close()  # last: sessions are ended with the credentials they were begun with

    # ------------------------------------------------------------------------------------- port

    async def execute(self, call: Call, dialogue: Dialogue | None) -> Outcome:
        """See ``ports.Upstreams``."""
        started = self._clock.now_ns()
        before = self._clock.monotonic()
        target = self._peers.get(call.tool.upstream)
        if target is None:
            return Outcome(status="not_sent", code="unknown_upstream", started_ns=started)
        if self._closing:
            return Outcome(status="not_sent", code="shutting_down", started_ns=started)
        self._in_flight += 1
        self._idle.clear()
        try:
            message = await self._carried_out(target, call, dialogue)
            status, code, detail = self._judge(message, dialogue)
            shown = status in ("ok", "tool_error", "rpc_error", "input_required")
            return Outcome(
                status=status,
                code=code,
                detail=detail,
                result_json=message.result_json if shown else b"",
                error_json=message.error_json if shown else b"",
                started_ns=started,
                upstream_ns=self._since(before),
            )
        except rounds.Refused as refused:
            # The upstream said itself that it has not done it yet, and will not hear the rest.
            return Outcome(
                status="failed",
                code="input_refused",
                detail=refused.code,
                started_ns=started,
                upstream_ns=self._since(before),
            )
        except UpstreamError as error:
            return Outcome(
                status=_status_of(error, call),
                code=error.code,
                detail=error.detail,
                remedy=error.remedy if isinstance(error, BadArguments) else "",
                started_ns=started,
                upstream_ns=self._since(before),
            )
        except (
            Exception
        ):  # our own fault, at a moment when the request may be on its way: never a clean failure
            logger.exception("call %s failed inside the gateway", call.id)
            return Outcome(
                status="in_doubt",
                code="gateway_error",
                started_ns=started,
                upstream_ns=self._since(before),
            )
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    def _with_assertion(self, request: Request, call: Call, target: Peer, number: int = 0) -> Request:
        """``number`` counts the input rounds of the call, each of which is a request of its own."""
        audience = self._asserted.get(call.tool.upstream)
        if audience is None:
            return request
        # Without its assertion the upstream could not tell the call from one that went around us.
        if self._signer is None:
            raise NotSent("credential_unavailable", "there is no key to sign an assertion with")
        signed = self._signer.sign(call, audience, self.policy_revision(), number)
        if isinstance(target, HttpPeer | OpenApiPeer):
            return assertion.in_header(request, signed)
        return assertion.in_meta(request, signed)

    def jwks(self) -> dict[str, Json]:
        """The public keys that assertions can be verified with."""
        return self._signer.jwks() if self._signer is not None else {"keys": []}

    def secrets(self) -> Iterator[tuple[str, Secret]]:
        """Every secret with the name of its upstream, for ``doctor``."""
        for name, each in self._credentials.items():
            for secret in each.secrets:
                yield name, secret

    def credentials(self) -> Sequence[CredentialState]:
        """How the secrets of each upstream do that has some. Safe to ask from another thread."""
        states = (each.state() for each in self._credentials.values())
        return [state for state in states if state.any]

    def _since(self, before: float) -> int:
        return int((self._clock.monotonic() - before) * 1e9)

    async def _carried_out(self, target: Peer, call: Call, dialogue: Dialogue | None) -> Message:
        """The answer, after the input rounds that the client does not take part in itself."""
        loop = asyncio.get_running_loop()
        deadline_s = call.tool.manifest.deadline_s
        request = (
            subscribe(call.tool.name)
            if call.tool.kind == "subscription"
            else shape.shape(call, self._param_headers(call))
        )
        owner = peer.owner_of(call)
        asked = self._with_assertion(request, call, target)
        message = await target.call(asked, owner, loop.time() + deadline_s, dialogue)
        if dialogue is None or dialogue.rounds:
            return message
        for number in range(1, rounds.MAX_ROUNDS + 1):
            if b"input_required" not in bytes(message.result) or not self._asks(message):
                break
            following = await rounds.answered(request, message, dialogue)
            # People take longer to answer than an assertion lives.
            following = self._with_assertion(following, call, target, number)
            message = await target.call(following, owner, loop.time() + deadline_s, dialogue)
        return message

    @staticmethod
    def _asks(message: Message) -> bool:
        try:
            return _head.decode(message.result).result_type == "input_required"
        except (msgspec.DecodeError, RecursionError):
            return False  # ``_judge`` says what is wrong with it

    def _judge(self, message: Message, dialogue: Dialogue | None) -> tuple[Status, str, str]:
        """What kind of answer it is; raises ``InDoubt`` for a result that is no object of the protocol."""
        if len(message.result) + len(message.error) > self._result_bytes:
            return "withheld", "result_too_large", f"{len(message.result)} bytes"
        if message.error:
            return "rpc_error", "upstream_error", f"JSON-RPC error {message.error_code()}"
        try:
            head = _head.decode(message.result)
        except (msgspec.DecodeError, RecursionError) as error:
            raise nonsense(f"not a result: {error}") from None
        if head.result_type == "input_required" and dialogue is not None and dialogue.rounds:
            rounds.parse(message.result)
            return "input_required", "", ""
        if head.result_type != "complete":
            # No capability was declared that would permit asking back; there is nobody to answer.
            return "failed", "upstream_error", f"the upstream asks for {head.result_type[:40]!r}"
        if head.is_error:
            return "tool_error", "upstream_error", ""
        return "ok", "", ""

    def _param_headers(self, call: Call) -> ParamHeaders:
        tool = call.tool
        if tool.kind != "tool" or b"x-mcp-header" not in tool.definition_json:
            return ()
        found = self._headers.get(tool.schema_hash)
        if found is None:
            if len(self._headers) >= _SCHEMAS:
                self._headers.clear()
            found = param_headers(orjson.loads(tool.definition_json).get("inputSchema"))
            self._headers[tool.schema_hash] = found
        return found

    async def unsubscribe(self, who: Subscriber, upstream: str, uri: str) -> None:
        """End a subscription; a fault is only logged, since nothing is owed to anybody any more."""
        request = Request(UNSUBSCRIBE, b'"uri":%b' % orjson.dumps(uri), name=uri)
        try:
            at = asyncio.get_running_loop().time() + LIST_S
            await self._get(upstream).call(request, Owner(*who), at, None)
        except (UpstreamError, Refused) as error:
            logger.debug("upstream %s: not unsubscribed: %s", upstream, error)

    def ended(self, thread: str) -> None:
        """A client is gone; what was opened for it alone is closed."""
        for each in self._peers.values():
            each.ended(thread)

    # ------------------------------------------------------------------------------- discovery

    async def reach(self, upstream: str) -> None:
        """Connect to an upstream whose lists do not come from itself; raises ``UpstreamError``."""
        target = self._get(upstream)
        if isinstance(target, OpenApiPeer):
            await target.reach(asyncio.get_running_loop().time() + FIRST_CONTACT_S)

    def info(self, upstream: str) -> Info | None:
        """What a server says of itself; ``None`` before first contact, ``Refused`` for an unknown name."""
        return self._get(upstream).status().info or self._known.get(upstream)

    def status(self) -> Sequence[peer.Status]:
        return [each.status() for each in self._peers.values()]

    async def definitions(self, upstream: str, kind: ListKind) -> list[dict[str, Json]] | None:
        """One whole list as the upstream gives it; ``None`` when it does not declare the capability.

        Raises ``UpstreamError`` when it cannot be had, does not end, or is no list.
        """
        capability, method, key = _LISTS[kind]
        at = asyncio.get_running_loop().time() + LIST_S
        info = await self._contact_info(upstream, at)
        if capability not in info.capabilities:
            return None
        entries: list[dict[str, Json]] = []
        seen: set[str] = set()
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await self._page(upstream, method, cursor, at)
            items = page.get(key)
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                raise nonsense(f"{method}: {key!r} is no list of objects")
            entries += items
            if len(entries) > MAX_ENTRIES:
                raise nonsense(f"{method}: more than {MAX_ENTRIES} entries")
            cursor = page.get("nextCursor")
            if cursor is None:
                return entries
            if not isinstance(cursor, str) or cursor in seen:
                raise nonsense(f"{method}: the pages go round in a circle")
            seen.add(cursor)
        raise nonsense(f"{method}: more than {MAX_PAGES} pages")

    async def _page(self, upstream: str, method: str, cursor: str | None, at: float) -> dict[str, Json]:
        params: dict[str, Json] = {} if cursor is None else {"cursor": cursor}
        message = await self._get(upstream).call(plain(method, params), GATEWAY, at, None)
        if message.error:
            # A server that declares resources need not have templates (or the other way round).
            if message.error_code() == -32601:
                return {_LISTS[kind][2]: [] for kind in _LISTS}
            raise UpstreamError("upstream_error", f"{method}: JSON-RPC error {message.error_code()}")
        page = loads(message.result_json)
        if not isinstance(page, dict):
            raise nonsense(f"{method}: no object")
        return page

    async def _contact(self, upstream: str, at: float) -> None:
        await self._contact_info(upstream, at)

    async def _contact_info(self, upstream: str, at: float) -> Info:
        await self._keeper.start()
        info = self._known[upstream] = await self._get(upstream).info(at)
        return info

    def _get(self, upstream: str) -> Peer:
        found = self._peers.get(upstream)
        if found is None:
            raise Refused("unknown_upstream", upstream)
        return found


def _status_of(error: UpstreamError, call: Call) -> Status:
    """What a fault says about the effect of the call."""
    if isinstance(error, NotSent):
        return "not_sent"
    if error.code == "cancelled" and not call.tool.writes:
        return "failed"  # nobody wants the answer of a read, and nothing depends on it
    if isinstance(error, BodyTooLarge):
        return "withheld"  # it was answered, so nothing is in doubt but what the answer says
    if isinstance(error, Declined):
        return "failed"  # an HTTP 4xx: the upstream says that it did not do it
    assert isinstance(error, InDoubt)
    return "in_doubt"


def _ignore(_: str) -> None:
    pass


def _ignore_update(_: str, __: Subscriber, ___: str) -> None:
    pass
