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
    meta = _meta(call)
    if call.tool.kind == "tool":
        return Request(
            "tools/call",
            b'"name":%b,"arguments":%b' % (orjson.dumps(call.tool.name), call.args_json),
            meta,
            call.tool.name,
            param_values(wanted, call.args) if wanted else (),
        )
    if call.tool.kind == "prompt":
        params = b'"name":%b,"arguments":%b' % (orjson.dumps(call.tool.name), call.args_json)
        return Request("prompts/get", params, meta, call.tool.name)
    if call.tool.kind == "resource":
        return Request("resources/read", b'"uri":%b' % orjson.dumps(call.tool.name), meta, call.tool.name)
    # A completion's arguments are its params. Only these three: a "_meta" among them would be a second one.
    asked = {key: call.args[key] for key in ("argument", "context", "ref") if key in call.args}
    return Request("completion/complete", orjson.dumps(asked)[1:-1], meta)


def _meta(call: Call) -> bytes:
    """What is passed on in ``_meta``: the caller's own keys and the trace this call belongs to."""
    if not call.client_meta_json:
        return b'"traceparent":%b' % orjson.dumps(call.traceparent) if call.traceparent else b""
    meta = orjson.loads(call.client_meta_json)
    kept = {key: value for key, value in meta.items() if not key.startswith(_NOT_PASSED)}
    if call.traceparent:
        kept["traceparent"] = call.traceparent
    return orjson.dumps(kept)[1:-1]
