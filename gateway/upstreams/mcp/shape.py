"""From a governed call to the MCP request that carries it out, one row a kind."""

from __future__ import annotations

from typing import Final

import orjson

from gateway.model import Call
from gateway.upstreams.headers import ParamHeaders, param_values
from gateway.upstreams.jsonrpc import Request

# Set by the gateway or bound to its own capabilities; a client's value would speak for the wrong party.
_NOT_PASSED: Final = ("io.modelcontextprotocol/", "traceparent", "dev.wardgate/")


def shape(call: Call, wanted: ParamHeaders = ()) -> Request:
    """The request of ``call``; its arguments are the canonical bytes that were decided."""
    kind, name = call.tool.kind, call.tool.name
    headers: tuple[tuple[str, str], ...] = ()
    if kind == "tool":
        method = "tools/call"
        params = b'"name":%b,"arguments":%b' % (orjson.dumps(name), call.args_json)
        headers = param_values(wanted, call.args) if wanted else ()
    elif kind == "prompt":
        method = "prompts/get"
        params = b'"name":%b,"arguments":%b' % (orjson.dumps(name), call.args_json)
    elif kind == "resource":
        method = "resources/read"
        params = b'"uri":%b' % orjson.dumps(name)
    else:
        # A completion's arguments are its params. Only these three: a "_meta" there would be a second one.
        asked = {key: call.args[key] for key in ("argument", "context", "ref") if key in call.args}
        return Request("completion/complete", orjson.dumps(asked)[1:-1], _meta(call))
    if call.inputs_json:
        params += b"," + call.inputs_json[1:-1]
    return Request(method, params, _meta(call), name, headers, call.capabilities_json, call.log_level)


def _meta(call: Call) -> bytes:
    """What is passed on in ``_meta``: the caller's own keys and the trace this call belongs to."""
    if not call.client_meta_json:
        return b'"traceparent":%b' % orjson.dumps(call.traceparent) if call.traceparent else b""
    meta = orjson.loads(call.client_meta_json)
    kept = {key: value for key, value in meta.items() if not key.startswith(_NOT_PASSED)}
    if call.traceparent:
        kept["traceparent"] = call.traceparent
    return orjson.dumps(kept)[1:-1]
