"""The metrics of one gateway and the registry that holds them; ``specs`` lists them.

``prometheus_client`` directly rather than the OpenTelemetry exporter, because that one has no exemplars.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gateway.reasons import REASONS
from gateway.telemetry import specs
from gateway.telemetry.cardinality import OTHER, Children, Guard
from gateway.telemetry.specs import Spec


class RecordStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a journal says of itself when metrics are scraped."""

    written: int = 0
    dropped: Mapping[str, int] = {}  # by reason
    queue_length: int = 0
    last_write_s: float = 0.0  # seconds since the epoch, 0 when nothing was written yet


class Metrics:
    """The series of one gateway, in a registry of their own: two gateways in a process do not mix."""

    def __init__(self, *, version: str, max_tool_labels: int = 200) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # one more series for every counter, for nothing
        self.registry = CollectorRegistry(auto_describe=False)
        counter, gauge, histogram = self._counter, self._gauge, self._histogram

        collapsed = Children(
            counter(specs.COLLAPSED), ((label,) for label in ("server", "tool", "rule_id", "code", "surface"))
        )
        self.surface: Guard[str] = Guard(len(specs.SURFACES), OTHER, collapsed[("surface",)].inc)
        self.surface.declare(specs.SURFACES)
        self.server: Guard[str] = Guard(specs.UPSTREAM_CAP, OTHER, collapsed[("server",)].inc)
        self.tool: Guard[tuple[str, str]] = Guard(max_tool_labels, (OTHER, OTHER), collapsed[("tool",)].inc)
        self.rule: Guard[str] = Guard(specs.RULE_CAP, OTHER, collapsed[("rule_id",)].inc)
        self.code: Guard[str] = Guard(specs.CODE_CAP, OTHER, collapsed[("code",)].inc)
        self.code.declare(REASONS)

        self.requests = Children(counter(specs.REQUESTS), (("mcp", outcome) for outcome in specs.OUTCOMES))
        self.request_seconds = Children(histogram(specs.REQUEST_SECONDS), (("mcp",),))
        self.overhead_seconds = Children(histogram(specs.OVERHEAD_SECONDS), (("mcp",),))
        self.in_progress = Children(gauge(specs.IN_PROGRESS))
        self.refusals = Children(counter(specs.REFUSALS), ((code,) for code in REASONS))
        self.tool_calls = Children(counter(specs.TOOL_CALLS))
        self.upstream_requests = Children(counter(specs.UPSTREAM_REQUESTS))
        self.upstream_seconds = Children(histogram(specs.UPSTREAM_SECONDS))
        self.policy_decisions = Children(counter(specs.POLICY_DECISIONS))
        self.rule_hits = Children(counter(specs.RULE_HITS))
        self.policy_seconds = Children(histogram(specs.POLICY_SECONDS))
        self.policy_errors = Children(
            counter(specs.POLICY_ERRORS), (("embedded", code) for code in (*specs.POLICY_FAULTS, "observed"))
        )
        self.unenforced = Children(
            counter(specs.UNENFORCED),
            ((stage, reason) for stage in specs.STAGES for reason in specs.NOT_ENFORCED),
        )
        self.auth_failures = Children(
            counter(specs.AUTH_FAILURES), ((reason,) for reason in specs.AUTH_REASONS)
        )
        self.spans = Children(
            counter(specs.SPANS), ((result,) for result in ("exported", "failed", "dropped"))
        )
        self._activations = Children(counter(specs.ACTIVATIONS), (("success",), ("failure",)))
        self._activated = gauge(specs.ACTIVATED)
        self._bundle = gauge(specs.BUNDLE)
        self._records: dict[str, Callable[[], RecordStats]] = {}
        self.registry.register(_Records(self._records))
        gauge(specs.BUILD).labels(version, platform.python_version()).set(1)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    # -- what may be named --------------------------------------------------------------------------------

    def declare_upstreams(self, names: Iterable[str]) -> None:
        """The configured upstreams; series of those that went are dropped."""
        gone = set(self.server.declare(names))
        if gone:
            self.upstream_requests.drop(key for key in tuple(self.upstream_requests) if key[0] in gone)
            self.upstream_seconds.drop(key for key in tuple(self.upstream_seconds) if key[0] in gone)
            self.tool_calls.drop(key for key in tuple(self.tool_calls) if key[0] in gone)

    def declare_tools(self, names: Iterable[tuple[str, str]]) -> None:
        """``(upstream, tool)`` of the loaded catalog, in its order; up to ``max_tool_labels`` are named."""
        for server, tool in self.tool.declare(names):
            self.tool_calls.drop((server, tool, action) for action in specs.ACTIONS)

    def declare_rules(self, ids: Iterable[str]) -> None:
        """Module ids of the active bundle."""
        self.rule_hits.drop((rule,) for rule in self.rule.declare(ids))

    def declare_codes(self, codes: Iterable[str]) -> None:
        """Reason codes the active bundle declares, beside the gateway's own."""
        self.refusals.drop((code,) for code in self.code.declare((*REASONS, *codes)))

    # -- what happens rarely ------------------------------------------------------------------------------

    def bundle_activated(self, revision: str, at_s: float) -> None:
        """A policy revision became the active one; the series of the one before is removed."""
        self._activations[("success",)].inc()
        self._activated.set(at_s)
        self._bundle.clear()
        self._bundle.labels(revision).set(1)

    def bundle_failed(self) -> None:
        """Policy could not be loaded; the last good revision stays active."""
        self._activations[("failure",)].inc()

    def watch_records(self, sink: str, stats: Callable[[], RecordStats]) -> None:
        """Ask ``stats`` at each scrape, so that counting records costs a call nothing."""
        self._records[sink] = stats

    def render(self, accept: str) -> tuple[str, bytes]:
        """The scrape as ``(content type, body)``: OpenMetrics with exemplars when asked for, else text."""
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self.registry)

    # -- making them --------------------------------------------------------------------------------------

    def _counter(self, spec: Spec) -> Counter:
        return Counter(spec.name, spec.help, tuple(spec.labels), registry=self.registry)

    def _gauge(self, spec: Spec) -> Gauge:
        return Gauge(spec.name, spec.help, tuple(spec.labels), registry=self.registry)

    def _histogram(self, spec: Spec) -> Histogram:
        return Histogram(
            spec.name, spec.help, tuple(spec.labels), buckets=spec.buckets, registry=self.registry
        )


class _Records(Collector):
    """Turns ``RecordStats`` into series at scrape time."""

    def __init__(self, sources: Mapping[str, Callable[[], RecordStats]]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        written = CounterMetricFamily(specs.RECORDS.name, specs.RECORDS.help, labels=["sink"])
        dropped = CounterMetricFamily(
            specs.RECORDS_DROPPED.name, specs.RECORDS_DROPPED.help, labels=["sink", "reason"]
        )
        queue = GaugeMetricFamily(specs.RECORD_QUEUE.name, specs.RECORD_QUEUE.help, labels=["sink"])
        last = GaugeMetricFamily(specs.RECORD_LAST.name, specs.RECORD_LAST.help, labels=["sink"])
        for sink, source in self._sources.items():
            stats = source()
            written.add_metric([sink], stats.written)
            for reason in ("overflow", "oversize", "write_error"):
                dropped.add_metric([sink, reason], stats.dropped.get(reason, 0))
            queue.add_metric([sink], stats.queue_length)
            last.add_metric([sink], stats.last_write_s)
        yield from (written, dropped, queue, last)
