"""traceparent is read as the W3C recommendation says, and what is malformed counts as not sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry import tracecontext
from tests.telemetry.scene import call, telemetry

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


def test_a_valid_header_is_read():
    assert tracecontext.parse(f"00-{TRACE}-{SPAN}-01") == tracecontext.Remote(TRACE, SPAN, True)
    assert tracecontext.parse(f"00-{TRACE}-{SPAN}-00") == tracecontext.Remote(TRACE, SPAN, False)


def test_only_the_sampled_bit_decides():
    assert tracecontext.parse(f"00-{TRACE}-{SPAN}-fe").sampled is False
    assert tracecontext.parse(f"00-{TRACE}-{SPAN}-03").sampled is True


def test_a_later_version_may_say_more():
    assert tracecontext.parse(f"01-{TRACE}-{SPAN}-01-what-comes-later").trace_id == TRACE


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"01-{TRACE}-{SPAN}-01more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-01\r\nx: y",
        "0" * 100_000,
    ],
)
def test_a_malformed_header_starts_a_new_trace(header):
    assert tracecontext.parse(header) is None
    watch = telemetry()
    sent = tracecontext.parse(watch.traceparent(watch.call_started(call(traceparent=header))))
    assert sent is not None and sent.trace_id != TRACE


@given(st.text())
def test_no_text_breaks_the_reader(text):
    tracecontext.parse(text)


@given(
    st.integers(1, 2**128 - 1).map(lambda n: f"{n:032x}"),
    st.integers(1, 2**64 - 1).map(lambda n: f"{n:016x}"),
    st.booleans(),
)
def test_what_is_written_is_read_back(trace_id, span_id, sampled):
    header = tracecontext.render(trace_id, span_id, sampled)
    assert tracecontext.parse(header) == tracecontext.Remote(trace_id, span_id, sampled)


def test_an_unsampled_call_stays_in_its_trace_with_a_span_id_of_its_own():
    watch = telemetry()
    sent = tracecontext.parse(
        watch.traceparent(watch.call_started(call(traceparent=f"00-{TRACE}-{SPAN}-00")))
    )
    assert sent.trace_id == TRACE and sent.span_id != SPAN and not sent.sampled


def test_without_a_collector_a_sampled_caller_is_passed_on_untouched():
    watch = telemetry(sample=1.0)
    header = f"00-{TRACE}-{SPAN}-01"
    assert watch.traceparent(watch.call_started(call(traceparent=header))) == header
