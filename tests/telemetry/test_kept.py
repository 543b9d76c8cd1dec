"""What is always traced, however small the share: refusals, failures, trips, and what people decide about."""

from __future__ import annotations

import sys

import pytest
from msgspec.structs import replace
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from gateway.digest import new_id
from gateway.errors import ConfigError
from gateway.model import Answer, Manifest, Refusal
from gateway.telemetry import semconv, specs, tracecontext
from gateway.telemetry.tracing import EXTRA_PER_S, approval_context
from tests.play import verdict
from tests.telemetry.scene import (
    ALLOW,
    DENY,
    LOG,
    attributes,
    call,
    collector,
    governed,
    outcome,
    series,
    telemetry,
)

APPROVAL = "0190a1b2-c3d4-7e5f-8a6b-0123456789ab"
HELD = Refusal(code="approval_needed", message="ask", approval=APPROVAL, retryable=True)
ESCALATE = replace(verdict("escalate"), engine="regorus 0.13.0")
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


async def kept(**script):
    """The spans of one call by name, and the series, with a share of nothing."""
    with collector() as receiver:
        watch = telemetry(sample=0.0, otlp_endpoint=receiver.url)
        await governed(watch, **script)
        watch.shutdown()
        return {(span.name, span.kind): span for span in receiver.spans}, watch


def server_of(spans):
    return next(span for (_, kind), span in spans.items() if kind == Span.SPAN_KIND_SERVER)


@pytest.mark.parametrize(
    ("script", "because"),
    [
        ({"verdicts": [DENY]}, "refused"),
        ({"outcome": outcome("tool_error")}, "failed"),
        ({"outcome": outcome("in_doubt", code="upstream_timeout")}, "failed"),
        ({"fail": "intent"}, "failed"),
        ({"verdicts": [ESCALATE], "held": HELD}, "approval"),
    ],
)
async def test_a_call_that_ended_so_is_traced_although_nobody_chose_it(script, because):
    spans, watch = await kept(**script)
    server = server_of(spans)
    assert attributes(server)[semconv.SAMPLED_BECAUSE] == because
    seen = series(watch)
    assert seen[f'wardgate_traces_total{{because="{because}"}}'] == 1
    assert f'trace_id="{server.trace_id.hex()}"' in watch.metrics.render(OPENMETRICS)[1].decode()


async def test_an_ordinary_call_is_not():
    spans, watch = await kept()
    assert spans == {} and not any(series(watch)[f'wardgate_traces_total{{because="{each}"}}'] for each in
                                   (*specs.TRACED_BECAUSE, specs.NOT_TRACED))  # fmt: skip


async def test_a_call_that_moves_a_breaker_is_traced_and_says_which_detector():
    with collector() as receiver:
        watch = telemetry(sample=0.0, otlp_endpoint=receiver.url)
        asked = call()
        token = watch.call_started(asked)
        watch.tripped(asked.id, "repeat")
        watch.call_ended(
            token, asked, Answer(call_id="c1", action="allow", decision=ALLOW, outcome=outcome())
        )
        watch.shutdown()
        [server] = [span for span in receiver.spans if span.kind == Span.SPAN_KIND_SERVER]
    [trip] = server.events
    assert trip.name == semconv.TRIP_EVENT and attributes(trip)[semconv.DETECTOR] == "repeat"
    assert attributes(server)[semconv.SAMPLED_BECAUSE] == "tripped"


async def test_callers_who_ask_for_traces_do_not_use_up_those_of_refusals():
    with collector() as receiver:
        watch = telemetry(sample=0.0, otlp_endpoint=receiver.url)
        watch._now = lambda: 5_000_000_000  # one and the same second
        parent = tracecontext.render(tracecontext.new_trace_id(), tracecontext.new_span_id(), True)
        for n in range(EXTRA_PER_S + 5):
            watch.call_started(call(f"c{n}", traceparent=parent))
        await governed(watch, verdicts=[DENY])
        watch.shutdown()
        assert [span for span in receiver.spans if attributes(span).get(semconv.REASON)]


async def test_a_storm_of_refusals_is_bounded_and_counted():
    with collector() as receiver:
        watch = telemetry(sample=0.0, otlp_endpoint=receiver.url)
        watch._now = lambda: 5_000_000_000
        for n in range(EXTRA_PER_S + 7):
            asked = call(f"c{n}")
            watch.call_ended(watch.call_started(asked), asked, None)
        watch.shutdown()
    seen = series(watch)
    assert seen['wardgate_traces_total{because="failed"}'] == EXTRA_PER_S
    assert seen['wardgate_traces_total{because="limited"}'] == 7


async def test_a_held_call_an_approval_and_the_call_that_followed_find_each_other():
    """Three traces: nobody keeps a span open for an hour."""
    with collector() as receiver:
        watch = telemetry(sample=0.0, otlp_endpoint=receiver.url)
        await governed(watch, verdicts=[ESCALATE], held=HELD)
        watch.shutdown()
        [request] = [span for span in receiver.spans if span.name == semconv.APPROVAL_REQUEST_SPAN]
    held = tracecontext.render(request.trace_id.hex(), request.span_id.hex(), False)
    assert attributes(request)[semconv.APPROVAL_ID] == APPROVAL
    whole = approval_context(APPROVAL)
    assert [int.from_bytes(link.trace_id) for link in request.links] == [whole.trace_id]
    assert f"{whole.trace_id:032x}" == APPROVAL.replace("-", "")

    with collector() as receiver:
        watch = telemetry(sample=0.0, otlp_endpoint=receiver.url)
        watch.approval_over(APPROVAL, 1_000, {semconv.APPROVAL_RESOLUTION: "approved"}, held)
        watch.shutdown()
        [approval] = receiver.spans
    assert int.from_bytes(approval.trace_id) == whole.trace_id
    assert int.from_bytes(approval.span_id) == whole.span_id
    assert [link.span_id for link in approval.links] == [request.span_id]
    assert approval.start_time_unix_nano == 1_000

    spans, _ = await kept(
        verdicts=[ESCALATE],
        held=None,
        held_traceparent=held,
        tool=replace(LOG, manifest=Manifest(risk="read")),
    )
    server = server_of(spans)
    granted = str(attributes(server)[semconv.APPROVAL_ID])
    assert [int.from_bytes(link.span_id) for link in server.links] == [
        approval_context(granted).span_id,
        int.from_bytes(request.span_id),
    ]


async def test_a_call_that_is_approved_while_it_waits_is_two_spans_of_one_trace_and_one_request():
    waited = 0.2
    with collector() as receiver:
        watch = telemetry(sample=0.0, otlp_endpoint=receiver.url)
        await governed(watch, verdicts=[ESCALATE], held=HELD, agreed=waited)
        watch.shutdown()
        servers = [span for span in receiver.spans if span.kind == Span.SPAN_KIND_SERVER]
        clients = [span for span in receiver.spans if span.kind == Span.SPAN_KIND_CLIENT]
    assert len(servers) == 2 and len({span.trace_id for span in servers}) == 1
    assert len({attributes(span)[semconv.DECISION_ID] for span in servers}) == 2
    [executed] = [span for span in servers if attributes(span)[semconv.OUTCOME] == "allow"]
    assert [span.parent_span_id for span in clients] == [executed.span_id]
    seen = series(watch)
    assert seen['wardgate_requests_total{outcome="allow",surface="mcp"}'] == 1
    assert seen['wardgate_requests_total{outcome="hold",surface="mcp"}'] == 0
    assert watch.in_progress == 0 and seen['wardgate_requests_in_progress{surface="mcp"}'] == 0


async def test_the_time_of_people_is_not_counted_as_the_gateways():
    watch = telemetry()
    now = [1_000_000]
    watch._now = lambda: now[0]
    asked, again = call(), call(new_id())
    token = watch.call_started(asked)
    now[0] = 2_000_000
    watch.waits(token)
    now[0] = 3_002_000_000
    token = watch.goes_on(
        token, asked, Answer(call_id="c1", action="hold", decision=ESCALATE, refusal=HELD), again
    )
    now[0] = 3_005_000_000
    watch.call_ended(token, again, Answer(call_id="c1", action="allow", decision=ALLOW, outcome=outcome()))
    seen = series(watch)
    assert seen['wardgate_request_duration_seconds_sum{surface="mcp"}'] == pytest.approx(0.004)
    assert seen['wardgate_overhead_seconds_sum{surface="mcp"}'] == pytest.approx(0.002)


async def test_arguments_and_results_are_shown_only_to_who_asks_and_never_their_secrets():
    script = {
        "args": {"text": "hello", "pin": "4711", "header": "Authorization: Bearer abcdef123456"},
        "tool": replace(LOG, manifest=Manifest(risk="read", sensitive=("/pin",))),
        "outcome": outcome(result_json=b'{"content":[{"type":"text","text":"world"}]}'),
    }
    for wanted in (False, True):
        with collector() as receiver:
            watch = telemetry(sample=1.0, otlp_endpoint=receiver.url, trace_content=wanted)
            await governed(watch, **script)
            watch.shutdown()
            sent = b"".join(receiver.bodies)
            [server] = [span for span in receiver.spans if span.kind == Span.SPAN_KIND_SERVER]
        said = attributes(server)
        assert (b"hello" in sent, b"world" in sent) == (wanted, wanted)
        assert (semconv.ARGUMENTS in said, semconv.RESULT in said) == (wanted, wanted)
        assert b"4711" not in sent and b"abcdef123456" not in sent


async def test_a_collector_over_grpc_receives_the_same_tree():
    trees = []
    for over in ("http/protobuf", "grpc"):
        with collector(over=over) as receiver:
            watch = telemetry(sample=1.0, otlp_endpoint=receiver.url, otlp_protocol=over)
            await governed(watch)
            watch.shutdown()
            trees.append(sorted((span.name, span.kind, len(span.attributes)) for span in receiver.spans))
        assert series(watch)['wardgate_spans_total{result="exported"}'] == 4
    assert trees[0] == trees[1] and len(trees[0]) == 4


def test_grpc_that_is_not_installed_is_said_at_the_start(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(ConfigError, match=r"wardgate\[otlp-grpc\]"):
        telemetry(otlp_endpoint="http://127.0.0.1:1", otlp_protocol="grpc")
