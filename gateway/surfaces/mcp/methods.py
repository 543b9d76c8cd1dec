"""The methods this front serves, and how each becomes an ``Ask``.

Everything that reaches an upstream goes through ``pipeline.call``. A method that is in no table here is
refused: what nobody thought about must not pass.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import orjson

from gateway.model import HELD_TOOL, OWN, OWN_TOOL, Answer, Ask, Kind
from gateway.surfaces.mcp import answers, capabilities, carry, envelope, headers, lists, protocol, tasks
from gateway.surfaces.mcp.changes import Outbox
from gateway.surfaces.mcp.envelope import Rejected, Reply
from gateway.surfaces.mcp.names import exposed as exposed_name
from gateway.surfaces.mcp.request import Request

_NOT_THERE: Final = frozenset({"unknown_tool", "unknown_upstream", "not_visible"})
_SHOWN: Final = 128  # characters of an unknown name that are repeated to the client

_OF_SESSIONS: Final = frozenset({
    "budget_exceeded", "mandate_expired", "outside_mandate", "amount_unreadable",
})  # fmt: skip

Method = Callable[[Request], Awaitable[Reply]]


async def tools_call(request: Request) -> Reply:
    exposed = _text(request, "name")
    arguments = _arguments(request)
    found = _resolve(request, "tool", exposed)
    if found is None:
        return _nobodys(request, "tool", exposed)
    upstream, name = found
    if request.modern:
        expected = request.view.params(upstream, name)
        if expected:
            try:
                headers.check_params(expected, request.headers, arguments)
            except Rejected:
                # The complaint would tell of a tool this principal is not shown.
                if request.view.find(request.parts, request.principal, "tool", upstream, name) is None:
                    return _nobodys(request, "tool", exposed)
                raise
    return await _call(request, "tool", upstream, name, arguments, exposed)


async def prompts_get(request: Request) -> Reply:
    exposed = _text(request, "name")
    found = _resolve(request, "prompt", exposed)
    if found is None:
        return _nobodys(request, "prompt", exposed)
    return await _call(request, "prompt", found[0], found[1], _arguments(request), exposed)


async def resources_read(request: Request) -> Reply:
    uri = _text(request, "uri")
    upstream = request.upstream
    if upstream is None:
        upstream = _reader(request, uri)
        if upstream is None:
            return _nobodys(request, "resource", uri)
    # The URI is the target; it is not repeated as an argument, where an obligation could seem to change it.
    return await _call(request, "resource", upstream, uri, {}, uri)


async def completion_complete(request: Request) -> Reply:
    ref = request.params.get("ref")
    argument = request.params.get("argument")
    if not isinstance(ref, dict) or not isinstance(argument, dict):
        raise _invalid("'ref' and 'argument' must be objects.")
    args: dict[str, Any] = {"ref": ref, "argument": argument}
    if "context" in request.params:
        args["context"] = request.params["context"]
    if ref.get("type") == "ref/prompt" and isinstance(ref.get("name"), str):
        kind: Kind = "prompt"
        exposed: str = ref["name"]
        found = _resolve(request, kind, exposed)
        if found is None:
            return _nobodys(request, kind, exposed)
        upstream, name = found
        args["ref"] = {**ref, "name": name}
    elif ref.get("type") == "ref/resource" and isinstance(ref.get("uri"), str):
        kind = "resource"
        exposed = name = ref["uri"]
        reader = request.upstream if request.upstream is not None else _reader(request, name)
        if reader is None:
            return _nobodys(request, kind, exposed)
        upstream = reader
    else:
        raise _invalid("'ref' must name a prompt or a resource.")
    return await _call(request, "completion", upstream, name, args, exposed, refers_to=kind)


async def tools_list(request: Request) -> Reply:
    return _listing(request, "tools", "tools")


async def prompts_list(request: Request) -> Reply:
    return _listing(request, "prompts", "prompts")


async def resources_list(request: Request) -> Reply:
    return _listing(request, "resources", "resources")


async def resource_templates_list(request: Request) -> Reply:
    return _listing(request, "resourceTemplates", "resources")


async def resources_subscribe(request: Request) -> Reply:
    """Legacy: changes of a resource are told on the stream of the session."""
    if "subscribe" not in capabilities.of_server(request).get("resources", ()):
        raise Rejected("unknown_method")
    session, uri = request.session, _text(request, "uri")
    assert session is not None
    upstream = request.upstream if request.upstream is not None else _reader(request, uri)
    if upstream is None:
        return _nobodys(request, "resource", uri)
    session.outbox.principal = request.principal
    session.outbox.session = request.named_session()
    session.outbox.capabilities[upstream] = capabilities.of_client(request, upstream)
    answer = await request.front.changes.subscribe(session.outbox, upstream, uri)
    if answer.refusal is not None and answer.refusal.code in _NOT_THERE:
        return _unknown(request, "resource", uri)
    return answers.reply(answer, request.id_json, request.method, modern=False)


async def resources_unsubscribe(request: Request) -> Reply:
    session, uri = request.session, _text(request, "uri")
    assert session is not None
    request.front.changes.unsubscribe(session.outbox, uri)
    return Reply(envelope.result(request.id_json, b"{}"))


async def subscriptions_listen(request: Request) -> Reply:
    """Modern: one stream for everything its client wants to be told."""
    wanted = request.params.get("notifications")
    if not isinstance(wanted, dict):
        raise _invalid("'notifications' must be an object.")
    outbox = Outbox(
        request.principal, request.upstream, request.named_thread(), orjson.Fragment(request.id_json)
    )
    outbox.session = request.named_session()

    def resolve(uri: str) -> str | None:
        try:
            upstream = request.upstream if request.upstream is not None else _reader(request, uri)
        except Rejected:
            return None  # several offer it; one such URI must not cost the client the others
        if upstream is not None:
            outbox.capabilities[upstream] = capabilities.of_client(request, upstream)
        return upstream

    watched: list[str] = []
    if "taskIds" in wanted and request.front.tasks.offered:
        if not tasks.declared(capabilities.declared(request)):
            raise tasks.missing()
        watched = await request.front.tasks.mine(request.principal, wanted["taskIds"])
    return await request.front.listeners.subscription(
        outbox, wanted, resolve, request.id_json, request.exchange, request.receive, request.holds,
        watched, lambda: request.front.tasks.watch(outbox, watched, request.holds),
    )  # fmt: skip


async def tasks_get(request: Request) -> Reply:
    task = await request.front.tasks.get(request.principal, _task_id(request))
    return Reply(envelope.result(request.id_json, task))


async def tasks_update(request: Request) -> Reply:
    """No task of ours asks its client anything, so whatever is answered was not asked, and is ignored."""
    await request.front.tasks.known(request.principal, _task_id(request))
    return tasks.acknowledged(request.id_json)


async def tasks_cancel(request: Request) -> Reply:
    await request.front.tasks.cancel(request.principal, _task_id(request))
    return tasks.acknowledged(request.id_json)


def _task_id(request: Request) -> str:
    if not request.front.tasks.offered:
        raise Rejected("unknown_method", status=404)
    if not tasks.declared(capabilities.declared(request)):
        raise tasks.missing()
    return _text(request, "taskId")


LEGACY_METHODS: Final[dict[str, Method]] = {
    "resources/subscribe": resources_subscribe,
    "resources/unsubscribe": resources_unsubscribe,
}
MODERN_METHODS: Final[dict[str, Method]] = {
    "subscriptions/listen": subscriptions_listen,
    "tasks/get": tasks_get,
    "tasks/update": tasks_update,
    "tasks/cancel": tasks_cancel,
}

METHODS: Final[dict[str, Method]] = {
    "tools/call": tools_call,
    "tools/list": tools_list,
    "prompts/get": prompts_get,
    "prompts/list": prompts_list,
    "resources/read": resources_read,
    "resources/list": resources_list,
    "resources/templates/list": resource_templates_list,
    "completion/complete": completion_complete,
}


async def _call(
    request: Request,
    kind: Kind,
    upstream: str,
    name: str,
    args: Any,
    exposed: str,
    refers_to: Kind | None = None,
) -> Reply:
    exchange = request.exchange
    exchange.progress_token = request.meta.get("progressToken")
    principal = request.principal
    traceparent, http_traceparent = request.traceparents()
    ask = Ask(
        principal=principal,
        surface="mcp",
        kind=kind,
        upstream=upstream,
        name=name,
        args=args,
        session=request.named_session(),
        mandate_json=request.mandate(),
        thread=request.thread,
        client_meta_json=request.client_meta(),
        capabilities_json=capabilities.of_client(request, upstream) if kind in carry.ROUNDED else b"",
        log_level=exchange.log_name,
        traceparent=traceparent,
        http_traceparent=http_traceparent,
        waits=carry.waits(request, kind),
    )
    answer = await (carry.modern if request.session is None else carry.legacy)(request, ask)
    if isinstance(answer, dict):
        return Reply(envelope.result(request.id_json, orjson.dumps(answer)))
    if answer.refusal is not None and answer.refusal.code in _NOT_THERE:
        return _unknown(request, refers_to or kind, exposed)
    answer = _with_way_out(request, answer)
    return answers.reply(answer, request.id_json, request.method, modern=request.modern)


def _with_way_out(request: Request, answer: Answer) -> Answer:
    """A refusal names the gateway's own tool that helps with it, where the agent has that tool."""
    refusal = answer.refusal
    if refusal is None or not (refusal.asks or refusal.code in _OF_SESSIONS):
        return answer
    own = HELD_TOOL if refusal.asks else OWN_TOOL
    if request.view.find(request.parts, request.principal, "tool", OWN, own) is None:
        return answer
    if refusal.asks:
        told = f"{_place(request, own)} answers the reviewer, who waits for that."
    elif request.upstream in (None, OWN):
        told = f"{_place(request, own)} shows what you may do and what is left."
    else:
        return answer
    remedy = f"{refusal.remedy.rstrip('.')}. {told}" if refusal.remedy else told
    return msgspec.structs.replace(answer, refusal=msgspec.structs.replace(refusal, remedy=remedy))


def _place(request: Request, own: str) -> str:
    """Where a tool of the gateway's own is for this client."""
    if request.upstream == OWN:
        return f"The tool '{own}'"
    if request.upstream is None:
        return f"The tool '{exposed_name(OWN, own)}'"
    return f"The tool '{own}' at /mcp/{OWN}"


def _resolve(request: Request, kind: Kind, exposed: str) -> tuple[str, str] | None:
    if request.upstream is not None:
        return request.upstream, exposed
    return request.view.names.resolve(kind, exposed)


def _reader(request: Request, uri: str) -> str | None:
    """The one upstream that a URI can be read from; never a guess between two."""
    readers = request.view.readers(request.parts, request.principal, uri)
    if len(readers) > 1:
        raise _invalid("Several upstreams offer this URI; read it at one upstream's own endpoint.")
    return readers[0] if readers else None


def _nobodys(request: Request, kind: Kind, exposed: str) -> Reply:
    """Refuse a name that leads to no upstream; guessing names must leave a trace like any other refusal."""
    detail = f"no {kind} {exposed[:_SHOWN]!r}"
    request.parts.journal.refused("unknown_tool", "mcp", request.principal, detail)
    request.parts.telemetry.refused("unknown_tool", "mcp")
    return _unknown(request, kind, exposed)


def _unknown(request: Request, kind: Kind, exposed: str) -> Reply:
    """The protocol's unknown-name error, the same bytes for what is hidden and for what is not there."""
    shown = exposed if len(exposed) <= _SHOWN else exposed[:_SHOWN] + "…"
    error: dict[str, Any] = {"code": protocol.INVALID_PARAMS, "message": f"Unknown {kind}: {shown}"}
    if kind == "resource":
        error["message"] = "Resource not found"
        error["data"] = {"uri": shown}
        if not request.modern:
            error["code"] = protocol.RESOURCE_NOT_FOUND
    return Reply(envelope.error(request.id_json, orjson.dumps(error)))


def _listing(request: Request, key: lists.Key, capability: str) -> Reply:
    if capability not in capabilities.of_server(request):
        raise Rejected("unknown_method", status=404 if request.modern else 200)
    return lists.listing(
        request.parts,
        request.view,
        request.principal,
        request.upstream,
        key,
        request.named_session(),
        request.params.get("cursor"),
        request.id_json,
        modern=request.modern,
    )


def _arguments(request: Request) -> Any:
    arguments = request.params.get("arguments")
    return {} if arguments is None else arguments


def _text(request: Request, key: str) -> str:
    value = request.params.get(key)
    if not isinstance(value, str) or not value:
        raise _invalid(f"'{key}' must be a non-empty string.")
    return value


def _invalid(message: str) -> Rejected:
    return Rejected("invalid_request", message, status=200, rpc=protocol.INVALID_PARAMS)
