"""The ``Telemetry`` port: what the pipeline tells, turned into metrics and spans.

A call that is not traced costs a dozen increments and one ``Live``;
``tests/telemetry/test_cost.py`` holds the bound. All methods run on the event loop's thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from gateway.config import TelemetryConfig
from gateway.model import Action, Answer, Call, Decision, Outcome, Tool
from gateway.ports import Permit
from gateway.telemetry import logs, specs
from gateway.telemetry.cardinality import OTHER
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import Live, Tracer

_ENGINES: Final = {"regorus": "embedded", "opa": "opa"}
_ENTRYPOINTS: Final = frozenset(specs.ENTRYPOINTS)
_NAMED: Final = ("tool_error", "rpc_error", "input_required")  # results that have no code
_RESULTS: Final = frozenset(specs.UPSTREAM_RESULTS)
_POLICY_FAULTS: Final = frozenset(specs.POLICY_FAULTS)
_AUTH: Final = frozenset(specs.AUTH_REASONS)


def build(config: TelemetryConfig, *, version: str, instance: str) -> Telemetry:
    """Metrics and, when a collector is configured, traces. ``instance`` tells replicas apart."""
    metrics = Metrics(version=version, max_tool_labels=config.max_tool_labels)
    sink = None
    if config.otlp_endpoint is not None:
        # Imported here: the exporter takes a sixth of a second that a gateway without a collector saves.
        from gateway.telemetry.export import OtlpSink

        sink = OtlpSink(config.otlp_endpoint, metrics.spans_counted, protocol=config.otlp_protocol)
    content = None
    if config.trace_content:
        from gateway.telemetry.content import shown

        content = shown
    tracer = Tracer(
        sink,
        sample=config.sample,
        version=version,
        instance=instance,
        content=content,
        counted=metrics.traced,
    )
    return Telemetry(metrics, tracer)


class Telemetry:
    """One per process; outlives reloads, which only ``declare`` anew what may be named."""

    def __init__(
        self, metrics: Metrics, tracer: Tracer, monotonic_ns: Callable[[], int] = time.perf_counter_ns
    ) -> None:
        self.metrics = metrics
        self._tracer = tracer
        self._now = monotonic_ns
        self._live: dict[str, Live] = {}

    @property
    def in_progress(self) -> int:
        """Calls under way."""
        return len(self._live)

    def declare(
        self, *, upstreams: Iterable[str], tools: Iterable[Tool], rules: Iterable[str], codes: Iterable[str]
    ) -> None:
        """Name what metrics may show: upstreams, tools, and the module ids and codes of the bundle."""
        self.metrics.declare_upstreams(upstreams)
        self.metrics.declare_tools((tool.upstream, tool.name) for tool in tools)
        self.metrics.declare_rules(rules)
        self.metrics.declare_codes(codes)

    def shutdown(self, timeout_s: float = 3.0) -> None:
        """Send the spans that are left; blocks for at most ``timeout_s``."""
        self._tracer.shutdown(timeout_s)

    # -- the port -----------------------------------------------------------------------------------------

    def call_started(self, call: Call) -> Live:
        live = self._live[call.id] = self._tracer.begin(call, self._now())
        live.outer = logs.under_way.get()
        live.name = logs.UnderWay(call.id, live.trace_id)
        logs.under_way.set(live.name)
        self.metrics.in_progress[(self.metrics.surface[call.surface],)] += 1
        return live

    def waits(self, token: object) -> None:
        assert isinstance(token, Live)
        token.waiting = self._now()

    def goes_on(self, token: object, call: Call, held: Answer, again: Call) -> Live:
        assert isinstance(token, Live)
        now = self._now()
        live = self._tracer.again(token, again, now)
        # The request is one, and its time too: only what people took of it is theirs.
        live.begun, live.waited = token.begun or token.started, token.waited + now - token.waiting
        live.outer, live.name = token.outer, token.name
        if live.name is not None:
            live.name.call_id = again.id
        del self._live[token.call_id]
        self._live[again.id] = live
        self._tracer.keeps(token, held, now)
        self._tracer.end(token, call, held, now)
        return live

    def traceparent(self, token: object) -> str:
        assert isinstance(token, Live)
        return token.traceparent

    def decided(self, call: Call, decision: Decision, action: Action, permit: Permit | None = None) -> None:
        live = self._live.get(call.id)
        if live is not None:
            live.decided, live.decision, live.action = self._now(), decision, action
            if permit is not None:
                live.held = permit.traceparent
        self._evaluated(call, decision, action, "call", live)
        metrics = self.metrics
        if call.tool.kind == "tool":
            named = metrics.tool[(call.tool.upstream, call.tool.name)]
            key = (
                (*named, action)
                if named[1] is not OTHER
                else (metrics.server[call.tool.upstream], OTHER, action)
            )
        else:
            key = (metrics.server[call.tool.upstream], specs.KINDS_WITHOUT_NAMES[call.tool.kind], action)
        metrics.tool_calls[key].value += 1

    def inspected(self, call: Call, decision: Decision) -> None:
        live = self._live.get(call.id)
        if live is not None:
            live.inspected_at, live.inspected = self._now(), decision
        held_back = decision.verdict != "allow" and call.mode == "enforce"
        self._evaluated(call, decision, "block" if held_back else "allow", "result", live)

    def call_ended(self, token: object, call: Call, answer: Answer | None) -> None:
        assert isinstance(token, Live)
        self._live.pop(token.call_id, None)
        if token.name is not None:
            token.name.call_id = ""  # a task that was started meanwhile may keep it for as long as it lives
            logs.under_way.set(token.outer)
        metrics, now = self.metrics, self._now()
        surface = metrics.surface[call.surface]
        metrics.in_progress[(surface,)] -= 1
        outcome = answer.outcome if answer is not None else None
        trace = token.trace_id if self._tracer.keeps(token, answer, now) else ""
        if token.waiting:
            token.waited += now - token.waiting
        total = (now - (token.begun or token.started) - token.waited) / 1e9
        waited = outcome.upstream_ns / 1e9 if outcome is not None else 0.0
        metrics.request_seconds[(surface,)].observe(total, trace)
        metrics.overhead_seconds[(surface,)].observe(max(total - waited, 0.0), trace)
        if outcome is not None and outcome.started_ns:  # a question is carried out by the client
            upstream = metrics.server[call.tool.upstream]
            metrics.upstream_requests[(upstream, _result(outcome))].value += 1
            metrics.upstream_seconds[(upstream,)].observe(waited, trace)
        if answer is None:
            metrics.requests[(surface, "error")].value += 1
        elif answer.decision is not None:  # a refusal without a decision has been counted by ``refused``
            code = answer.refusal.code if answer.refusal is not None else ""
            if code:
                metrics.refusals[(metrics.code[code],)].value += 1
            metrics.requests[(surface, "error" if code in specs.FAULTS else answer.action)].count(trace)
        if trace:
            self._tracer.end(token, call, answer, now)

    def settled(self, call: Call, outcome: Outcome) -> None:
        self.metrics.settled[(self.metrics.server[call.tool.upstream], outcome.status)].value += 1

    def refused(self, code: str, surface: str) -> None:
        metrics = self.metrics
        metrics.refusals[(metrics.code[code],)].value += 1
        metrics.requests[(metrics.surface[surface], "error" if code in specs.FAULTS else "block")].value += 1
        if code in _AUTH:
            metrics.auth_failures[(code,)].value += 1

    def unenforced(self, stage: str, reason: str) -> None:
        known = stage in specs.STAGES and reason in specs.NOT_ENFORCED
        self.metrics.unenforced[(stage, reason) if known else (OTHER, OTHER)].value += 1

    def tripped(self, call_id: str, detector: str) -> None:
        """A call that is under way moved a breaker, so it is traced."""
        live = self._live.get(call_id)
        if live is not None:
            live.tripped = detector

    def approval_over(self, approval: str, opened_ns: int, said: Mapping[str, str], held: str) -> None:
        """People, or time, decided an approval; ``held`` is the ``traceparent`` of the call it was for."""
        self._tracer.approval(approval, opened_ns, time.time_ns(), said, held)

    def _evaluated(
        self, call: Call, decision: Decision, action: Action, entrypoint: str, live: Live | None
    ) -> None:
        """Count one evaluation of policy, whichever entry point it was."""
        metrics = self.metrics
        trace = live.trace_id if live is not None and live.sampled else ""
        metrics.policy_decisions[(entrypoint, decision.verdict, action, call.mode)].count(trace)
        for finding in decision.findings:
            if finding.rule:
                metrics.rule_hits[(metrics.rule[finding.rule],)].value += 1
        for finding in decision.notes:
            metrics.rule_hits[(metrics.rule[finding.rule],)].value += 1
        if not decision.engine:
            return  # the gateway itself decided; nothing was evaluated
        engine = _ENGINES.get(decision.engine.partition(" ")[0], OTHER)
        metrics.policy_seconds[(engine,)].observe(decision.elapsed_ns / 1e9, trace)
        if decision.code in _POLICY_FAULTS:
            metrics.policy_errors[(engine, decision.code)].value += 1
        for finding in decision.notes:
            if finding.code in _POLICY_FAULTS:  # allowed from memory, while the engine cannot be reached
                metrics.policy_errors[(engine, finding.code)].value += 1
        for observed in decision.observed:
            if observed.verdict == "error":
                metrics.policy_errors[(engine, "observed")].value += 1
            elif observed.verdict != "allow":
                metrics.rule_hits[(metrics.rule[observed.rule],)].value += 1


def _result(outcome: Outcome) -> str:
    """What came back, as one of a closed list; a result that was then withheld did come back."""
    if outcome.status in ("ok", "withheld", "unobserved"):
        return "ok"
    result = outcome.code if outcome.status not in _NAMED else outcome.status
    return result if result in _RESULTS else OTHER
