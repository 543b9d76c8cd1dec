"""A secret that passes through a call is in no metric, no span and no log line."""

from __future__ import annotations

import io
import logging

from msgspec.structs import replace

from gateway.model import Finding
from gateway.telemetry import logs
from tests.telemetry.scene import DENY, collector, governed, outcome, telemetry

CANARY = "CANARY7f3a"


async def test_arguments_results_and_policy_messages_leave_no_trace():
    quoting = Finding(code="no_rule_allows", message=f"refused {CANARY}", remedy=CANARY, rule="base.deny")
    scenes = (
        {"args": {"password": CANARY, CANARY: 1}},
        {"outcome": outcome(result_json=f'{{"content":"{CANARY}"}}'.encode())},
        {"outcome": outcome("rpc_error", error_json=f'{{"message":"{CANARY}"}}'.encode())},
        {"outcome": outcome("in_doubt", code="upstream_lost", detail=CANARY)},
        {"verdicts": [replace(DENY, findings=(quoting,))]},
        {"result": (replace(DENY, findings=(quoting,)), CANARY.encode())},
        {"fail": "execute", "args": {"x": CANARY}},
        {"traceparent": f"00-{CANARY}"},
    )
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter())
    logging.getLogger().addHandler(handler)
    try:
        with collector() as receiver:
            watch = telemetry(sample=1.0, otlp_endpoint=receiver.url)
            for scene in scenes:
                await governed(watch, **scene)
            watch.shutdown()
            assert len(receiver.spans) > 20  # there was something to look through
            sent = b"".join(receiver.bodies)
    finally:
        logging.getLogger().removeHandler(handler)
    shown = watch.metrics.render("application/openmetrics-text; version=1.0.0")[1]
    assert "gateway" in stream.getvalue()
    assert CANARY.encode() not in sent
    assert CANARY.encode() not in shown
    assert CANARY not in stream.getvalue()
