"""What the boards and alerts ask is answered by a real Prometheus, and the spans are the documented ones.

One run of the scenario; every test asks its own question of what was seen.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gateway.telemetry import semconv, specs
from observability import queries
from tests.observability.proof import Proof, played
from tests.requires import requires
from tests.telemetry.scene import attributes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), requires("prometheus")]

TRACES = Path(__file__).parents[2] / "docs/reference/traces.md"
KINDS = {
    Span.SPAN_KIND_SERVER: "SERVER",
    Span.SPAN_KIND_CLIENT: "CLIENT",
    Span.SPAN_KIND_INTERNAL: "INTERNAL",
}


@pytest.fixture(scope="module")
def proof(tmp_path_factory) -> Proof:
    picture = os.environ.get("PICTURE")  # where to put it: 'make picture'
    return asyncio.run(
        played(
            tmp_path_factory.mktemp("proof"),
            ordinary_s=90 if picture else 6,
            picture=Path(picture) if picture else tmp_path_factory.mktemp("picture") / "overview.svg",
        )
    )


def test_every_panel_has_something_to_show(proof):
    silent = sorted(
        f"{asked.board}: {asked.panel}: {asked.expr}"
        for asked, series in proof.panels.items()
        if not any(_numbers(each) for each in series)
    )
    assert not silent, "\n".join(silent)
    assert len(proof.panels) > 80


def _numbers(series):
    values = series.get("values") or [series["value"]]
    return [value for _, value in values if not math.isnan(float(value))]


def test_every_metric_there_is_was_seen(proof):
    seen = {re.sub(r"_(bucket|count|sum)$", "", name) for name in proof.names} | proof.names
    assert {spec.name for spec in specs.SPECS} <= seen


def test_every_rule_was_evaluated(proof):
    assert len(proof.rules) > 45
    for rule in proof.rules:
        assert rule["health"] == "ok", (rule["name"], rule.get("lastError"))


def test_every_metric_of_every_alert_was_there(proof):
    """An alert on a name that is never there would be silent for ever."""
    seen = {re.sub(r"_(bucket|count|sum)$", "", name) for name in proof.names}
    for rule in proof.rules:
        assert queries.metrics(rule["query"]) <= seen, rule["name"]


def test_alerts_fired_for_what_was_played_and_for_nothing_else(proof):
    fired = {rule["name"] for rule in proof.rules if rule["type"] == "alerting" and rule["state"] == "firing"}
    assert {
        "WardgateBreakerOpen",
        "WardgateKillInForce",
        "WardgateEffectRefuted",
        "WardgateBundleActivationFailing",
    } <= fired
    never = {"WardgateFailingOpen", "WardgateEnforcementDisabled", "WardgateRecordsDropped", "WardgateAbsent"}
    assert not never & fired


def test_what_stands_in_the_end_is_what_was_played(proof):
    def now(expr, *labels):
        return {
            tuple(each["metric"][label] for label in labels): float(each["value"][1])
            for each in proof.now[expr]
        }

    assert max(now("wardgate_calls_in_doubt", "instance").values()) >= 1
    up = now("wardgate_upstream_up", "upstream")
    assert up[("second",)] == 0 and up[("counting",)] == 1
    assert ("agent", "open") in now("wardgate_breakers > 0", "scope", "state") or (
        "session",
        "open",
    ) in now("wardgate_breakers > 0", "scope", "state")
    assert now("wardgate_kills > 0", "scope") == {("agent",): 1}
    assert now("wardgate_approvals_pending > 0", "chain")[("default",)] >= 1
    [age] = now("time() - wardgate_approvals_oldest_pending_timestamp_seconds", "chain").values()
    assert 1 < age < 120
    modules = now("wardgate_policy_modules > 0", "mode")
    assert modules[("observe",)] == 1 and modules[("enforce",)] >= 1
    assert now("wardgate_policy_candidate_ratio > 0") == {(): 1}


def test_no_label_names_an_agent_a_call_or_an_argument(proof):
    declared = {label for spec in specs.SPECS for label in spec.labels}
    prometheus_own = {
        "__name__",
        "job",
        "le",
        "alertname",
        "alertstate",
        "severity",
        "quantile",
        "generation",
        "implementation",
        "major",
        "minor",
        "patchlevel",
    }
    assert set(proof.labels) - prometheus_own <= declared | {"instance"}
    values = set().union(*(proof.labels[label] for label in declared if label in proof.labels))
    agents = {"alice", "bob", "carol", "dave", "erin", "frank", "team-a"}
    assert not [value for value in values if agents & set(re.split(r"\W+", value))]
    assert not [value for value in values if re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-7", value)]


def test_an_exemplar_points_to_a_trace_the_collector_has(proof):
    known = {span.trace_id.hex() for spans in proof.spans.values() for span in spans}
    pointed = {each["labels"]["trace_id"] for series in proof.exemplars for each in series["exemplars"]}
    assert pointed and pointed <= known


# ------------------------------------------------------------------------------------------------ traces


def documented():
    """The tree of a call and that of an approval, as the page draws them: ``(name, kind)`` with its depth."""
    blocks = [block for block in TRACES.read_text().split("```")[1::2] if "SERVER" in block]
    lines = [
        re.match(r"([├└]─ )?(.*?)\s+(SERVER|CLIENT|INTERNAL)\b", line)
        for line in blocks[0].strip().splitlines()
    ]
    return [(match[2], match[3], bool(match[1])) for match in lines if match]


def shape(span):
    """A span as the page names it."""
    tool = attributes(span).get(semconv.TOOL_NAME)
    name = span.name.replace(f" {tool}", " {tool}") if tool else span.name
    return name, KINDS[span.kind]


@pytest.mark.parametrize("over", ["http", "grpc"])
def test_the_spans_of_calls_are_the_documented_tree(proof, over):
    lines = documented()
    [root] = [(name, kind) for name, kind, below in lines if not below]
    children = {(name, kind) for name, kind, below in lines if below}
    by_id = {span.span_id: span for span in proof.spans[over]}
    seen = set()
    for span in proof.spans[over]:
        if span.name == semconv.APPROVAL_SPAN:
            continue
        parent = by_id.get(span.parent_span_id)
        if span.kind == Span.SPAN_KIND_SERVER:
            assert shape(span) == root, span.name
            if attributes(span)[semconv.SURFACE] == "verify":
                assert parent is not None and parent.kind == Span.SPAN_KIND_CLIENT
            else:
                assert parent is None
        else:
            assert parent is not None and shape(parent) == root, span.name
            assert parent.trace_id == span.trace_id
            assert shape(span) in children, span.name
            seen.add(shape(span))
    if over == "http":
        assert seen == children, "every documented span was seen"


def test_approvals_are_traces_linked_both_ways(proof):
    spans = proof.spans["http"]
    by_name = {}
    for span in spans:
        by_name.setdefault(span.name, []).append(span)
    requests = {span.span_id: span for span in by_name[semconv.APPROVAL_REQUEST_SPAN]}
    approvals = {span.span_id: span for span in by_name[semconv.APPROVAL_SPAN]}
    ends = {attributes(span)[semconv.APPROVAL_RESOLUTION] for span in approvals.values()}
    assert {"approved", "rejected", "expired"} <= ends
    for approval in approvals.values():
        [link] = approval.links
        request = requests[link.span_id]
        assert request.trace_id == link.trace_id
        assert approval.trace_id.hex() == attributes(request)[semconv.APPROVAL_ID].replace("-", "")
        assert [link.span_id for link in request.links] == [approval.span_id]
    [resumed] = [
        span
        for span in spans
        if span.kind == Span.SPAN_KIND_SERVER
        and attributes(span)[semconv.OUTCOME] == "allow"
        and semconv.APPROVAL_ID in attributes(span)
    ]
    assert {link.span_id for link in resumed.links} == {
        link_target
        for approval in approvals.values()
        if attributes(approval)[semconv.APPROVAL_ID] == attributes(resumed)[semconv.APPROVAL_ID]
        for link_target in (approval.span_id, approval.links[0].span_id)
    }


def test_every_attribute_of_every_span_is_documented(proof):
    text = TRACES.read_text()
    for spans in proof.spans.values():
        for span in spans:
            for name in attributes(span):
                assert f"`{name}`" in text, name


def test_the_verdict_is_apart_from_the_action_where_policy_is_only_observed(proof):
    found = {
        (said[semconv.VERDICT_TYPE], said[semconv.ACTION_TYPE])
        for span in proof.spans["http"]
        if span.name == semconv.POLICY_SPAN
        for said in [attributes(span)]
    }
    assert {("allow", "allow"), ("deny", "block"), ("deny", "allow"), ("escalate", "hold")} <= found


def test_a_refused_call_is_no_error_and_a_failed_one_is(proof):
    servers = [span for span in proof.spans["http"] if span.kind == Span.SPAN_KIND_SERVER]
    for span in servers:
        said = attributes(span)
        assert (span.status.code == Status.STATUS_CODE_ERROR) == (semconv.ERROR_TYPE in said)
        if said.get(semconv.REASON) in ("no_text", "approval_needed", "killed", "breaker_open"):
            assert semconv.ERROR_TYPE not in said
    assert {attributes(span).get(semconv.ERROR_TYPE) for span in servers} >= {"upstream_lost", None}


def test_a_trip_is_on_the_span_of_the_call_that_caused_it(proof):
    trips = [
        event for span in proof.spans["http"] for event in span.events if event.name == semconv.TRIP_EVENT
    ]
    assert "repeat" in {attributes(event)[semconv.DETECTOR] for event in trips}


def test_log_lines_are_objects_and_those_of_a_call_carry_its_ids(proof):
    lines = [json.loads(line) for line in proof.logs]
    traces = {span.trace_id.hex() for span in proof.spans["http"]}
    of_calls = [line for line in lines if "call_id" in line and "trace_id" in line]
    assert of_calls and {line["trace_id"] for line in of_calls} <= traces
