"""Which calls are traced, what a collector receives of one, and that no collector can hold a call up."""

from __future__ import annotations

import socket
import time

import pytest
from msgspec.structs import replace
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gateway.model import Answer
from gateway.telemetry import semconv, tracecontext
from gateway.telemetry.export import QUEUE
from gateway.telemetry.tracing import EXTRA_PER_S
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

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
UNSAMPLED = f"00-{TRACE}-00f067aa0ba902b7-00"


async def traced(sample=1.0, **script):
    """The spans a collector receives of one call, by name and kind, and what the gateway answered."""
    with collector() as receiver:
        watch = telemetry(sample=sample, otlp_endpoint=receiver.url)
        await governed(watch, **script)
        watch.shutdown()
        return receiver.spans


def by_kind(spans, kind):
    return next(span for span in spans if span.kind == kind)


async def test_a_traced_call_is_the_documented_tree():
    spans = await traced()
    server, client = by_kind(spans, Span.SPAN_KIND_SERVER), by_kind(spans, Span.SPAN_KIND_CLIENT)
    names = sorted((span.name, span.kind) for span in spans)
    assert names == [
        ("run_guardrail policy", Span.SPAN_KIND_INTERNAL),
        ("tools/call log", Span.SPAN_KIND_SERVER),
        ("tools/call log", Span.SPAN_KIND_CLIENT),
        ("wardgate.record.write", Span.SPAN_KIND_INTERNAL),
    ]
    assert {span.parent_span_id for span in spans if span is not server} == {server.span_id}
    assert len({span.trace_id for span in spans}) == 1
    assert server.parent_span_id == b""
    for span in spans:
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.status.code == Status.STATUS_CODE_UNSET
    assert client.end_time_unix_nano - client.start_time_unix_nano == 2_000_000


async def test_the_spans_say_who_called_what_and_what_was_decided():
    spans = await traced()
    said = attributes(by_kind(spans, Span.SPAN_KIND_SERVER))
    assert said[semconv.MCP_METHOD] == "tools/call"
    assert said[semconv.OPERATION] == "execute_tool"
    assert said[semconv.TOOL_NAME] == "log"
    assert said[semconv.AGENT_ID] == "bot"
    assert said[semconv.CONVERSATION_ID] == "s1"
    assert said[semconv.OUTCOME] == "allow"
    assert said[semconv.UPSTREAM] == "git"
    assert said[semconv.MODE] == "enforce"
    assert said[semconv.SAMPLED_BECAUSE] == "ratio"
    policy = attributes(next(span for span in spans if span.name == semconv.POLICY_SPAN))
    assert policy[semconv.VERDICT_TYPE] == "allow" and policy[semconv.ACTION_TYPE] == "allow"
    assert policy[semconv.VERDICT_REASON] == "reads_allowed"
    assert policy[semconv.POLICY_RULES] == ["base.reads"]
    assert policy[semconv.POLICY_VERSION] == "r1"
    assert policy[semconv.GUARDRAIL] == "regorus 0.13.0"


async def test_the_resource_names_the_service_and_the_schema():
    with collector() as receiver:
        watch = telemetry(sample=1.0, otlp_endpoint=receiver.url)
        await governed(watch)
        watch.shutdown()
        [resource] = receiver.requests[0].resource_spans
    said = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert said == {"service.name": "wardgate", "service.version": "0.1.0", "service.instance.id": "test"}
    assert resource.scope_spans[0].schema_url == semconv.SCHEMA_URL


async def test_the_callers_span_is_the_parent_and_the_http_request_is_linked():
    http = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    spans = await traced(traceparent=PARENT, http_traceparent=http)
    server = by_kind(spans, Span.SPAN_KIND_SERVER)
    assert server.trace_id.hex() == TRACE and server.parent_span_id.hex() == "00f067aa0ba902b7"
    assert [link.span_id.hex() for link in server.links] == ["b7ad6b7169203331"]
    assert attributes(server)[semconv.SAMPLED_BECAUSE] == "caller"


async def test_what_is_sent_upstream_names_the_client_span_as_parent():
    with collector() as receiver:
        watch = telemetry(sample=1.0, otlp_endpoint=receiver.url)
        asked = call()
        token = watch.call_started(asked)
        sent = tracecontext.parse(watch.traceparent(token))
        watch.decided(asked, ALLOW, "allow")
        watch.call_ended(token, asked, _answer())
        watch.shutdown()
        client = by_kind(receiver.spans, Span.SPAN_KIND_CLIENT)
    assert sent.sampled
    assert client.span_id.hex() == sent.span_id and client.trace_id.hex() == sent.trace_id


async def test_a_block_is_not_an_error_but_is_always_traced():
    spans = await traced(sample=0.0, verdicts=[DENY])
    server = by_kind(spans, Span.SPAN_KIND_SERVER)
    said = attributes(server)
    assert server.status.code == Status.STATUS_CODE_UNSET and semconv.ERROR_TYPE not in said
    assert said[semconv.REASON] == "no_rule_allows" and said[semconv.OUTCOME] == "block"
    assert said[semconv.SAMPLED_BECAUSE] == "refused"
    assert not [span for span in spans if span.kind == Span.SPAN_KIND_CLIENT]
    assert [event.name for event in server.events] == [semconv.DECISION_EVENT]


async def test_a_failure_is_an_error_and_says_which():
    for ended, error in (
        (outcome("in_doubt", code="upstream_timeout"), "upstream_timeout"),
        (outcome("tool_error"), "tool_error"),
    ):
        spans = await traced(outcome=ended)
        for kind in (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT):
            span = by_kind(spans, kind)
            assert span.status.code == Status.STATUS_CODE_ERROR
            assert attributes(span)[semconv.ERROR_TYPE] == error
    server = by_kind(await traced(fail="intent"), Span.SPAN_KIND_SERVER)
    assert attributes(server)[semconv.ERROR_TYPE] == "journal_unavailable"


async def test_the_inspection_of_a_result_is_a_span_of_its_own():
    withheld = DENY
    spans = await traced(result=(withheld, b""))
    [before, after] = [span for span in spans if span.name == semconv.POLICY_SPAN]
    assert attributes(before)[semconv.TARGET_TYPE] == "input"
    assert attributes(after)[semconv.TARGET_TYPE] == "output"
    assert attributes(after)[semconv.ACTION_TYPE] == "block"


async def test_a_caller_who_said_no_is_not_traced_unless_the_call_is_worth_it():
    assert await traced(traceparent=UNSAMPLED) == []
    spans = await traced(traceparent=UNSAMPLED, verdicts=[DENY])
    server = by_kind(spans, Span.SPAN_KIND_SERVER)
    assert server.trace_id.hex() == TRACE and attributes(server)[semconv.SAMPLED_BECAUSE] == "refused"


async def test_an_ordinary_call_that_was_not_chosen_is_not_traced():
    assert await traced(sample=0.0) == []


async def test_the_share_of_traced_calls_is_the_configured_one():
    with collector() as receiver:
        watch = telemetry(sample=0.25, otlp_endpoint=receiver.url)
        chosen = sum(watch.call_started(call(f"c{n}")).sampled for n in range(4000))
        watch.shutdown()
    assert 850 < chosen < 1150


async def test_callers_cannot_make_every_call_an_expensive_one():
    with collector() as receiver:
        watch = telemetry(sample=0.0, otlp_endpoint=receiver.url)
        watch._now = lambda: 5_000_000_000  # one and the same second
        chosen = [watch.call_started(call(f"c{n}", traceparent=PARENT)) for n in range(EXTRA_PER_S + 50)]
        assert sum(live.sampled for live in chosen) == EXTRA_PER_S
        assert chosen[-1].traceparent == PARENT  # and the caller's own trace is not torn
        watch.shutdown()


async def test_a_resource_is_not_named_in_a_span():
    secret = replace(LOG, kind="resource", name="file:///canary", target="git/canary")
    spans = await traced(tool=secret)
    assert by_kind(spans, Span.SPAN_KIND_SERVER).name == "resources/read"
    assert not any("canary" in str(span) for span in spans)


@pytest.mark.parametrize("kind", ["silent", "closed", "refusing"])
async def test_no_collector_can_delay_a_call(kind):
    """A port that accepts and never answers, one where nobody listens, one that says 503."""
    with socket.create_server(("127.0.0.1", 0)) as silent, collector(503) as refusing:
        url = {
            "silent": f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces",
            "closed": "http://127.0.0.1:9/v1/traces",
            "refusing": refusing.url,
        }[kind]
        watch = telemetry(sample=1.0, otlp_endpoint=url)
        slowest = 0.0
        for n in range(QUEUE // 4 + 200):  # four spans a call: more than the queue holds
            asked = call(f"c{n}")
            began = time.perf_counter()
            token = watch.call_started(asked)
            watch.decided(asked, ALLOW, "allow")
            watch.call_ended(token, asked, _answer())
            slowest = max(slowest, time.perf_counter() - began)
        assert slowest < 2.0  # an export that is waited for takes five seconds; a busy machine takes some
        if kind == "silent":
            assert series(watch)['wardgate_spans_total{result="dropped"}'] > 0
        began = time.perf_counter()
        watch.shutdown(timeout_s=0.5)
        assert time.perf_counter() - began < 1.5


async def test_spans_are_counted_by_what_became_of_them():
    with collector() as receiver:
        watch = telemetry(sample=1.0, otlp_endpoint=receiver.url)
        await governed(watch)
        watch.shutdown()
    assert series(watch)['wardgate_spans_total{result="exported"}'] == 4


def _answer():
    return Answer(call_id="c1", action="allow", decision=ALLOW, outcome=outcome())
