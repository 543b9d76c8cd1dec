"""The way of finished spans to an OpenTelemetry collector: OTLP, bounded, off the path of calls.

A collector that is down, slow or a black hole costs the spans and nothing else: they wait in a bounded queue
that one daemon thread empties; when it is full the newest call's spans are dropped whole and counted. Headers
(such as the collector's credential) and TLS files come from the standard ``OTEL_EXPORTER_OTLP_*`` variables.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, Literal, Protocol

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from gateway.errors import ConfigError

QUEUE: Final = 4096  # spans
BATCH: Final = 512
TIMEOUT_S: Final = 5.0  # of one export, its retries included


class SpanSink(Protocol):
    """Where finished spans go."""

    def submit(self, spans: Sequence[ReadableSpan]) -> None:
        """Never blocks, never raises."""

    def shutdown(self, timeout_s: float) -> None:
        """Send what is left for at most ``timeout_s`` seconds."""


class OtlpSink:
    """Sends to one OTLP endpoint in batches."""

    def __init__(
        self,
        endpoint: str,
        counted: Callable[[str, int], None],
        delay_s: float = 2.0,
        protocol: Literal["http/protobuf", "grpc"] = "http/protobuf",
    ) -> None:
        """``counted(result, spans)`` hears of ``exported``, ``failed`` and ``dropped``.

        Raises ``ConfigError`` when the protocol needs a package that is not installed.
        """
        self._counted = counted
        self._exporter = _Counting(_exporter(endpoint, protocol), counted)
        self._submitted = 0
        # All sizes are given, or OTEL_BSP_* variables of the environment could unbound the queue.
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=QUEUE,
            max_export_batch_size=BATCH,
            schedule_delay_millis=delay_s * 1000,
        )

    def submit(self, spans: Sequence[ReadableSpan]) -> None:
        # Asked here rather than left to the processor, which would drop other calls' spans one by one and
        # write a log line each time.
        if self._submitted - self._exporter.taken + len(spans) > QUEUE:
            self._counted("dropped", len(spans))
            return
        self._submitted += len(spans)
        for span in spans:
            self._processor.on_end(span)

    def shutdown(self, timeout_s: float) -> None:
        # The processor waits up to 30 s for its thread; a dead collector must not hold up a stop that long.
        closing = threading.Thread(target=self._processor.shutdown, name="otlp-shutdown", daemon=True)
        closing.start()
        closing.join(timeout_s)


def _exporter(endpoint: str, protocol: str) -> SpanExporter:
    if protocol == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as OverHttp

        return OverHttp(endpoint=endpoint, timeout=TIMEOUT_S)
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OverGrpc
    except ImportError:
        raise ConfigError(
            "telemetry.otlp_protocol: 'grpc' needs more packages: pip install 'wardgate[otlp-grpc]'"
        ) from None
    # Without TLS only where the URL says so, as the specification of the exporter asks.
    return OverGrpc(endpoint=endpoint, insecure=endpoint.startswith("http://"), timeout=TIMEOUT_S)


class _Counting(SpanExporter):
    """Counts what the exporter takes and what becomes of it."""

    def __init__(self, exporter: SpanExporter, counted: Callable[[str, int], None]) -> None:
        self._exporter = exporter
        self._counted = counted
        self.taken = 0  # written by the export thread only

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        result = self._exporter.export(spans)
        self._counted("exported" if result is SpanExportResult.SUCCESS else "failed", len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()
