"""Which calls are traced, and the span tree of one that is.

The choice is made first and without a span object: a call that is not traced carries a ``traceparent`` and
nothing else. The spans of a traced call are all made when it has ended, from the times its values carry, so
that tracing adds nothing between the steps of a call. The rule, in order:

1. no collector is configured: nothing is traced, and the caller's ``traceparent`` is passed on untouched
2. the caller decided (a valid ``traceparent``): its choice holds; at most ``EXTRA_PER_S`` of them a second,
   because a caller must not be able to make every one of its calls the expensive kind
3. otherwise ``sample`` of the calls are traced, chosen by the trace id, so that other services agree
4. a call that was not chosen, by whomever, and ended in a refusal, a failure, a trip of a breaker or with
   people deciding about it is traced all the same (also up to ``EXTRA_PER_S``, which callers cannot use up);
   what was sent upstream said "not sampled", so the upstream's spans are missing

An approval is a trace of its own, whose id is that of the approval: the held call and the call that was
carried out point to it, and it points to the held call.

Spans are ``ReadableSpan`` values rather than spans started on a tracer: their ids are known before them (the
CLIENT span's id travels upstream), and making one costs a tenth. A test with a real OTLP receiver holds what
this relies on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from gateway.model import Action, Answer, Call, Decision, Outcome
from gateway.telemetry import semconv, specs, tracecontext
from gateway.telemetry.logs import UnderWay
from gateway.telemetry.specs import FAULTS

if TYPE_CHECKING:
    from gateway.telemetry.export import SpanSink

EXTRA_PER_S: Final = 100
"""Calls traced because their caller asked for it, and as many again because of how they ended."""

Content = Callable[[Call, Answer | None], dict[str, str]]
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_FAILED: Final = Status(StatusCode.ERROR)
_FINE: Final = Status()


class Live(msgspec.Struct):
    """A call under way: what must be remembered until it ends. Times are of the monotonic clock, in ns."""

    started: int
    trace_id: str
    span_id: str  # of the SERVER span
    client_span_id: str  # of the CLIENT span; what goes upstream names it as parent
    traceparent: str  # to send upstream
    sampled: bool  # whether the upstream was told so
    because: str  # one of ``specs.TRACED_BECAUSE``; "" while it is not to be traced
    parent: tracecontext.Remote | None
    call_id: str
    limited: bool = False  # it would have been traced, and too many were
    tripped: str = ""  # the detector, when this call moved a breaker
    held: str = ""  # traceparent of the call that was held for what this one was permitted by
    waiting: int = 0  # since when its caller waits for people
    waited: int = 0  # how long its caller did
    begun: int = 0  # when the request began, of a call that goes on after one that was held
    outer: UnderWay | None = None
    name: UnderWay | None = None  # what log lines carry
    decided: int = 0
    decision: Decision | None = None
    action: Action = "allow"
    inspected: Decision | None = None
    inspected_at: int = 0


class Tracer:
    """Chooses, and builds the spans of what it chose."""

    def __init__(
        self,
        sink: SpanSink | None,
        *,
        sample: float,
        version: str,
        instance: str,
        content: Content | None = None,
        counted: Callable[[str], None] = lambda because: None,
    ) -> None:
        """``content`` shows arguments and results, where that is wanted. ``counted`` hears why a call is
        traced, or ``limited`` when it should have been."""
        self._sink = sink
        self._content = content
        self._counted = counted
        self._bound = round(sample * (1 << 64))
        self._scope = InstrumentationScope(semconv.SCOPE, version, semconv.SCHEMA_URL)
        self._resource = Resource(
            {
                semconv.SERVICE_NAME: "wardgate",
                semconv.SERVICE_VERSION: version,
                semconv.SERVICE_INSTANCE_ID: instance,
            },
            semconv.SCHEMA_URL,
        )
        self._callers, self._tail = _PerSecond(), _PerSecond()

    def begin(self, call: Call, now: int) -> Live:
        """Decide whether the call is traced; ``now`` is the monotonic clock in ns."""
        parent = tracecontext.parse(call.traceparent) if call.traceparent else None
        span_id, client_span_id = tracecontext.new_span_id(), tracecontext.new_span_id()
        if parent is not None:
            wanted = parent.sampled and self._sink is not None
            sampled = wanted and self._callers.affords(now)
            if sampled or not parent.sampled:
                header = tracecontext.render(parent.trace_id, client_span_id, sampled)
            else:
                header = call.traceparent  # the caller records and we do not: its span is the parent upstream
            because = "caller" if sampled else ""
            limited = wanted and not sampled
            return Live(
                now,
                parent.trace_id,
                span_id,
                client_span_id,
                header,
                sampled,
                because,
                parent,
                call.id,
                limited,
            )
        trace_id = tracecontext.new_trace_id()
        sampled = self._sink is not None and int(trace_id[16:], 16) < self._bound
        header = tracecontext.render(trace_id, client_span_id, sampled)
        because = "ratio" if sampled else ""
        return Live(now, trace_id, span_id, client_span_id, header, sampled, because, None, call.id)

    def again(self, live: Live, call: Call, now: int) -> Live:
        """The call that goes on after ``live`` was held: another span in the same trace."""
        span_id, client_span_id = tracecontext.new_span_id(), tracecontext.new_span_id()
        header = tracecontext.render(live.trace_id, client_span_id, live.sampled)
        because = live.because if live.sampled else ""
        return Live(
            now, live.trace_id, span_id, client_span_id, header, live.sampled, because, live.parent, call.id
        )

    def keeps(self, live: Live, answer: Answer | None, now: int) -> bool:
        """Whether a call that has ended is traced: chosen at its beginning, or worth it by how it ended."""
        if self._sink is None:
            return False
        if not live.because:
            worth = _worth(live, answer)
            if worth and self._tail.affords(now):
                live.because = worth
            elif worth or live.limited:
                self._counted(specs.NOT_TRACED)
        return bool(live.because)

    def end(self, live: Live, call: Call, answer: Answer | None, now: int) -> None:
        """Send the spans of a call that ``keeps`` said is traced; ``now`` is the monotonic clock in ns."""
        if self._sink is None or not live.because:
            return
        self._counted(live.because)
        self._sink.submit(self._spans(live, call, answer, now))

    def approval(
        self, approval: str, opened_ns: int, closed_ns: int, said: Mapping[str, str], held: str
    ) -> None:
        """Send the trace of an approval that people or time decided; wall-clock times.

        ``said`` are its attributes and ``held`` the ``traceparent`` of the call that waited for it.
        """
        if self._sink is None:
            return
        if not self._tail.affords(closed_ns):
            self._counted(specs.NOT_TRACED)
            return
        self._counted("approval")
        origin = tracecontext.parse(held)
        span = self._span(
            semconv.APPROVAL_SPAN, approval_context(approval, remote=False), None, opened_ns, closed_ns,
            SpanKind.INTERNAL, {semconv.APPROVAL_ID: approval, **said},
            links=(Link(_remote(origin)),) if origin is not None else (),
        )  # fmt: skip
        self._sink.submit([span])

    def shutdown(self, timeout_s: float = 3.0) -> None:
        """Send what is left, for at most ``timeout_s``."""
        if self._sink is not None:
            self._sink.shutdown(timeout_s)

    def _spans(self, live: Live, call: Call, answer: Answer | None, now: int) -> list[ReadableSpan]:
        """The tree, its root first. Wall-clock times: the call's own receipt plus monotonic differences."""
        offset = call.received_ns - live.started
        end = now + offset
        method = semconv.METHODS[call.tool.kind]
        # A resource's name is its address, chosen by the caller: as good as an argument.
        named = call.tool.kind in ("tool", "prompt")
        name = f"{method} {call.tool.name}" if named else method
        what = _what(call, method)
        outcome = answer.outcome if answer is not None else None
        root = self._context(live, live.span_id)
        error = _error(answer)
        parent = None
        if live.parent is not None:
            parent = _remote(live.parent)
        carrier = tracecontext.parse(call.http_traceparent) if call.http_traceparent else None
        spans = [
            self._span(
                name, root, parent, call.received_ns, end, SpanKind.SERVER,
                what | _said(live, call, answer) | ({semconv.ERROR_TYPE: error} if error else {})
                | (self._content(call, answer) if self._content is not None else {}),
                links=_links(live, answer, carrier),
                events=_events(live, offset, end),
                status=_FAILED if error else _FINE,
            )
        ]  # fmt: skip
        if live.decision is not None:
            decided = live.decided + offset
            spans.append(
                self._guardrail(live, root, live.decision, live.action, decided, "input", "tool_call")
            )
            answered = live.waiting + offset if live.waiting else end
            held = answer.refusal.approval if answer is not None and answer.refusal is not None else None
            if held is not None:
                # Under the id that the header of the held call names, because nothing went upstream.
                self_id = self._context(live, live.client_span_id)
                spans.append(
                    self._span(semconv.APPROVAL_REQUEST_SPAN, self_id, root, decided, max(answered, decided),
                               SpanKind.INTERNAL, {semconv.APPROVAL_ID: held},
                               links=(Link(approval_context(held)),))
                )  # fmt: skip
            sent = outcome.started_ns if outcome is not None and outcome.started_ns else answered
            spans.append(
                self._span(semconv.RECORD_SPAN, self._context(live), root, decided, max(sent, decided),
                           SpanKind.INTERNAL, {semconv.DECISION_ID: call.id})
            )  # fmt: skip
        if outcome is not None and outcome.started_ns:
            failed = _failure(outcome)
            spans.append(
                self._span(
                    name,
                    self._context(live, live.client_span_id),
                    root,
                    outcome.started_ns,
                    outcome.started_ns + outcome.upstream_ns,
                    SpanKind.CLIENT,
                    what
                    | {semconv.UPSTREAM: call.tool.upstream}
                    | ({semconv.ERROR_TYPE: failed} if failed else {}),
                    status=_FAILED if failed else _FINE,
                )
            )
        if live.inspected is not None:
            action: Action = "block" if outcome is not None and outcome.status == "withheld" else "allow"
            at = live.inspected_at + offset
            spans.append(self._guardrail(live, root, live.inspected, action, at, "output", "tool_result"))
        return spans

    def _guardrail(
        self,
        live: Live,
        root: SpanContext,
        decision: Decision,
        action: Action,
        end: int,
        target: str,
        subtype: str,
    ) -> ReadableSpan:
        attributes: dict[str, str | int | tuple[str, ...]] = {
            semconv.TARGET_TYPE: target,
            semconv.TARGET_SUBTYPE: subtype,
            semconv.GUARDRAIL: decision.engine or "gateway",
            semconv.POLICY_ID: decision.entry,
            semconv.POLICY_VERSION: decision.revision,
            semconv.POLICY_RULES: tuple(sorted({f.rule for f in decision.findings if f.rule})),
            semconv.VERDICT_TYPE: decision.verdict,
            semconv.ACTION_TYPE: action,
            semconv.MEMOISED: decision.memoised,
        }
        if decision.code:
            # The code only: a policy's message may quote arguments.
            attributes[semconv.VERDICT_REASON] = decision.code
        start = end - decision.elapsed_ns
        context = self._context(live)
        return self._span(semconv.POLICY_SPAN, context, root, start, end, SpanKind.INTERNAL, attributes)

    def _context(self, live: Live, span_id: str = "") -> SpanContext:
        span_id = span_id or tracecontext.new_span_id()
        return SpanContext(int(live.trace_id, 16), int(span_id, 16), False, _SAMPLED)

    def _span(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        start: int,
        end: int,
        kind: SpanKind,
        attributes: Mapping[str, str | int | tuple[str, ...]],
        links: tuple[Link, ...] = (),
        events: tuple[Event, ...] = (),
        status: Status = _FINE,
    ) -> ReadableSpan:
        return ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            attributes,
            events,
            links,
            kind,
            status=status,
            start_time=start,
            end_time=end,
            instrumentation_scope=self._scope,
        )


class _PerSecond:
    """At most ``EXTRA_PER_S`` of something each second."""

    __slots__ = ("_second", "_used")

    def __init__(self) -> None:
        self._second = self._used = 0

    def affords(self, now_ns: int) -> bool:
        second = now_ns // 1_000_000_000
        if second != self._second:
            self._second, self._used = second, 0
        self._used += 1
        return self._used <= EXTRA_PER_S


def _worth(live: Live, answer: Answer | None) -> str:
    """Why a call is traced whatever was chosen at its beginning, or ""."""
    if live.tripped:
        return "tripped"
    if answer is None:
        return "failed"
    refusal = answer.refusal
    if answer.approval or (refusal is not None and refusal.approval):
        return "approval"
    if _error(answer):
        return "failed"
    return "refused" if refusal is not None else ""


def approval_context(approval: str, *, remote: bool = True) -> SpanContext:
    """The one span of an approval: its ids follow from the approval's, so that nobody has to store them."""
    digest = sha256(approval.encode()).digest()
    span_id = int.from_bytes(digest[:8], "big") or 1
    try:
        trace_id = UUID(approval).int  # so that who has the approval has its trace
    except ValueError:
        trace_id = int.from_bytes(digest[8:24], "big")
    return SpanContext(trace_id, span_id, remote, _SAMPLED)


def _links(live: Live, answer: Answer | None, carrier: tracecontext.Remote | None) -> tuple[Link, ...]:
    """The HTTP request that carried the call, and what people decided about it."""
    links = [Link(_remote(carrier))] if carrier is not None else []
    if live.held and answer is not None:
        links.append(Link(approval_context(answer.approval)))
        if (origin := tracecontext.parse(live.held)) is not None:
            links.append(Link(_remote(origin)))
    return tuple(links)


def _remote(remote: tracecontext.Remote) -> SpanContext:
    flags = _SAMPLED if remote.sampled else TraceFlags(TraceFlags.DEFAULT)
    return SpanContext(int(remote.trace_id, 16), int(remote.span_id, 16), True, flags)


def _what(call: Call, method: str) -> dict[str, str | int | tuple[str, ...]]:
    """The attributes SERVER and CLIENT share: what is called."""
    attributes: dict[str, str | int | tuple[str, ...]] = {semconv.MCP_METHOD: method}
    if call.tool.kind == "tool":
        attributes[semconv.OPERATION] = "execute_tool"
        attributes[semconv.TOOL_NAME] = call.tool.name
    elif call.tool.kind == "prompt":
        attributes[semconv.PROMPT_NAME] = call.tool.name
    return attributes


def _said(live: Live, call: Call, answer: Answer | None) -> dict[str, str | int | tuple[str, ...]]:
    """Who called, and what became of it."""
    attributes: dict[str, str | int | tuple[str, ...]] = {
        semconv.DECISION_ID: call.id,
        semconv.AGENT_ID: call.principal.agent,
        semconv.CONVERSATION_ID: call.session,
        semconv.SURFACE: call.surface,
        semconv.UPSTREAM: call.tool.upstream,
        semconv.RISK: call.tool.manifest.risk,
        semconv.MODE: call.mode,
        semconv.SAMPLED_BECAUSE: live.because,
    }
    if answer is not None:
        attributes[semconv.OUTCOME] = answer.action
        if answer.refusal is not None:
            attributes[semconv.REASON] = answer.refusal.code
        if answer.approval:
            attributes[semconv.APPROVAL_ID] = answer.approval
    return attributes


def _events(live: Live, offset: int, end: int) -> tuple[Event, ...]:
    trip = (Event(semconv.TRIP_EVENT, {semconv.DETECTOR: live.tripped}, end),) if live.tripped else ()
    if live.decision is None:
        return trip
    attributes = {
        semconv.VERDICT_TYPE: live.decision.verdict,
        semconv.ACTION_TYPE: live.action,
        semconv.VERDICT_REASON: live.decision.code,
    }
    return (Event(semconv.DECISION_EVENT, attributes, live.decided + offset), *trip)


def _error(answer: Answer | None) -> str:
    """What failed, or "": a call that was blocked or held did not fail."""
    if answer is None:
        return "cancelled"
    failed = _failure(answer.outcome) if answer.outcome is not None else ""
    if not failed and answer.refusal is not None and answer.refusal.code in FAULTS:
        return answer.refusal.code
    return failed


def _failure(outcome: Outcome) -> str:
    """What failed at the upstream, or ""."""
    if outcome.status in ("ok", "withheld", "input_required", "unobserved"):
        return ""
    return outcome.status if outcome.status in ("tool_error", "rpc_error") else outcome.code or outcome.status
