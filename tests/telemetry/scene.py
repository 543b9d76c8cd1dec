"""Calls to tell telemetry about, and a collector that really receives what it sends."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from gateway import pipeline
from gateway.config import TelemetryConfig
from gateway.model import Ask, Call, Decision, Finding, Manifest, Outcome, Tool
from gateway.telemetry.telemetry import Telemetry, build
from tests.play import AGENT, Stage

LOG = Tool(
    kind="tool",
    upstream="git",
    name="log",
    target="git/log",
    manifest=Manifest(risk="read"),
    schema_hash="h",
)
ALLOW = Decision(
    verdict="allow",
    findings=(Finding(code="reads_allowed", message="reads are fine", rule="base.reads"),),
    engine="regorus 0.13.0",
    revision="r1",
    entry="call",
    elapsed_ns=90_000,
)
DENY = msgspec.structs.replace(
    ALLOW, verdict="deny", findings=(Finding(code="no_rule_allows", message="no", rule="base.deny"),)
)


def telemetry(**settings) -> Telemetry:
    """Telemetry that knows the tool of ``LOG`` and the rules of the decisions above."""
    made = build(TelemetryConfig(**settings), version="0.1.0", instance="test")
    made.declare(upstreams=["git"], tools=[LOG], rules=["base.reads", "base.deny"], codes=["reads_allowed"])
    return made


def call(call_id="c1", **changes) -> Call:
    base = {
        "id": call_id,
        "principal": AGENT,
        "tool": LOG,
        "args": {},
        "args_json": b"{}",
        "digest": "d",
        "session": "s1",
        "thread": "",
        "surface": "mcp",
        "effect_key": call_id,
        "received_ns": time.time_ns(),
    }
    return Call(**{**base, **changes})


def outcome(status="ok", **changes) -> Outcome:
    return Outcome(**{"status": status, "started_ns": time.time_ns(), "upstream_ns": 2_000_000, **changes})


async def governed(watch: Telemetry, *, args=None, traceparent="", http_traceparent="", tool=LOG, **script):
    """Take one call through the real pipeline with real telemetry."""
    stage = Stage(**{"tool": tool, "verdicts": [ALLOW], "outcome": outcome(), **script})
    parts = msgspec.structs.replace(stage.parts(), telemetry=watch)
    ask = Ask(
        principal=AGENT,
        surface="mcp",
        kind=tool.kind,
        upstream=tool.upstream,
        name=tool.name,
        args={} if args is None else args,
        session="s1",
        traceparent=traceparent,
        http_traceparent=http_traceparent,
    )
    return await pipeline.call(parts, ask)


def series(watch: Telemetry, accept="") -> dict[str, float]:
    """The scrape as ``{"name{labels}": value}``."""
    lines = watch.metrics.render(accept)[1].decode().splitlines()
    return {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
        for line in lines
        if line and not line.startswith("#") and " # " not in line
    }


class Collector:
    """An OTLP/HTTP receiver on loopback."""

    def __init__(self, status: int) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.bodies: list[bytes] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.bodies.append(body)
                outer.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def spans(self):
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class GrpcCollector(Collector):
    """An OTLP/gRPC receiver on loopback."""

    def __init__(self) -> None:
        self.requests, self.bodies = [], []
        outer = self

        class Servicer(TraceServiceServicer):
            def Export(self, request, context):
                outer.requests.append(request)
                outer.bodies.append(request.SerializeToString())
                return ExportTraceServiceResponse()

        self._server = grpc.server(ThreadPoolExecutor(2))
        add_TraceServiceServicer_to_server(Servicer(), self._server)
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(None).wait(5)


@contextmanager
def collector(status=200, *, over="http/protobuf"):
    running = GrpcCollector() if over == "grpc" else Collector(status)
    try:
        yield running
    finally:
        running.close()


def attributes(span) -> dict[str, object]:
    """An OTLP span's attributes as plain values."""
    found = {}
    for each in span.attributes:
        kind = each.value.WhichOneof("value")
        value = getattr(each.value, kind)
        found[each.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return found
