"""What a scrape shows, and what it never shows."""

from __future__ import annotations

import os
import shutil
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from gateway.model import Answer, Facts, Finding, Observed, Refusal
from gateway.reasons import REASONS
from gateway.telemetry import specs
from gateway.telemetry.metrics import Metrics, RecordStats, SessionStats
from tests.telemetry.scene import ALLOW, DENY, LOG, call, collector, governed, outcome, series, telemetry

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


async def test_an_allowed_call_is_counted_once_in_every_place():
    watch = telemetry()
    await governed(watch)
    seen = series(watch)
    assert seen['wardgate_requests_total{outcome="allow",surface="mcp"}'] == 1
    assert seen['wardgate_tool_calls_total{action="allow",server="git",tool="log"}'] == 1
    assert seen['wardgate_upstream_requests_total{result="ok",upstream="git"}'] == 1
    assert seen['wardgate_policy_rule_hits_total{rule_id="base.reads"}'] == 1
    assert seen['wardgate_request_duration_seconds_count{surface="mcp"}'] == 1
    assert seen['wardgate_policy_evaluation_seconds_count{engine="embedded"}'] == 1
    assert seen['wardgate_requests_in_progress{surface="mcp"}'] == 0
    decided = 'action="allow",entrypoint="call",mode="enforce",verdict="allow"'
    assert seen[f"wardgate_policy_decisions_total{{{decided}}}"] == 1


async def test_a_denied_call_is_a_block_with_its_code_and_no_upstream():
    watch = telemetry()
    await governed(watch, verdicts=[DENY])
    seen = series(watch)
    assert seen['wardgate_requests_total{outcome="block",surface="mcp"}'] == 1
    assert seen['wardgate_refusals_total{code="no_rule_allows"}'] == 1
    sent = [value for name, value in seen.items() if name.startswith("wardgate_upstream_requests_total")]
    assert not any(sent)


async def test_observing_shows_the_verdict_apart_from_the_action():
    watch = telemetry()
    tool = replace(LOG, mode="observe")
    await governed(watch, tool=tool, verdicts=[DENY])
    seen = series(watch)
    decided = 'action="allow",entrypoint="call",mode="observe",verdict="deny"'
    assert seen[f"wardgate_policy_decisions_total{{{decided}}}"] == 1
    assert seen['wardgate_unenforced_total{reason="observe",stage="policy"}'] == 1


async def test_our_own_faults_are_errors_not_blocks():
    watch = telemetry()
    await governed(watch, fail="intent")
    await governed(watch, fail="execute")  # a bug after the intent: never "try again"
    seen = series(watch)
    assert seen['wardgate_requests_total{outcome="error",surface="mcp"}'] == 2
    assert seen['wardgate_refusals_total{code="journal_unavailable"}'] == 1
    assert seen['wardgate_refusals_total{code="outcome_unrecorded"}'] == 1
    assert seen['wardgate_requests_in_progress{surface="mcp"}'] == 0


async def test_a_request_that_never_became_a_call_is_counted_with_its_code():
    watch = telemetry()
    await governed(watch, fail="resolve")
    watch.refused("revoked_credential", "mcp")
    seen = series(watch)
    assert seen['wardgate_refusals_total{code="unknown_tool"}'] == 1
    assert seen['wardgate_requests_total{outcome="block",surface="mcp"}'] == 2
    assert seen['wardgate_auth_failures_total{reason="revoked_credential"}'] == 1


def test_a_cancelled_call_leaves_nothing_in_progress():
    watch = telemetry()
    asked = call()
    token = watch.call_started(asked)
    assert series(watch)['wardgate_requests_in_progress{surface="mcp"}'] == 1
    watch.call_ended(token, asked, None)
    seen = series(watch)
    assert seen['wardgate_requests_in_progress{surface="mcp"}'] == 0 and watch.in_progress == 0
    assert seen['wardgate_requests_total{outcome="error",surface="mcp"}'] == 1


@pytest.mark.parametrize(
    ("ended", "result"),
    [
        (outcome("tool_error"), "tool_error"),
        (outcome("rpc_error"), "rpc_error"),
        (outcome("in_doubt", code="upstream_timeout"), "upstream_timeout"),
        (outcome("not_sent", code="upstream_unavailable"), "upstream_unavailable"),
        (outcome("failed", code="never_heard_of"), "_other"),
    ],
)
async def test_what_came_back_is_one_of_a_closed_list(ended, result):
    watch = telemetry()
    await governed(watch, outcome=ended)
    assert series(watch)[f'wardgate_upstream_requests_total{{result="{result}",upstream="git"}}'] == 1


def test_overhead_is_what_the_upstream_did_not_take():
    now = [0]
    watch = telemetry()
    watch._now = lambda: now[0]
    asked = call()
    token = watch.call_started(asked)
    watch.decided(asked, ALLOW, "allow")
    now[0] = 2_100_000
    watch.call_ended(token, asked, Answer(call_id="c1", action="allow", decision=ALLOW, outcome=outcome()))
    seen = series(watch)
    assert seen['wardgate_overhead_seconds_sum{surface="mcp"}'] == pytest.approx(0.0001)
    assert seen['wardgate_upstream_duration_seconds_sum{upstream="git"}'] == pytest.approx(0.002)


async def test_modules_in_observe_mode_are_counted_and_their_errors_too():
    watch = telemetry()
    watch.metrics.declare_rules(["trial.a", "trial.b"])
    trial = (
        Observed(rule="trial.a", verdict="deny", findings=(Finding(code="x", message="x"),)),
        Observed(rule="trial.b", verdict="error"),
    )
    await governed(watch, verdicts=[replace(ALLOW, observed=trial)])
    seen = series(watch)
    assert seen['wardgate_policy_rule_hits_total{rule_id="trial.a"}'] == 1
    assert seen['wardgate_policy_evaluation_errors_total{engine="embedded",reason="observed"}'] == 1


def test_alarms_have_a_zero_to_rise_from():
    seen = series(telemetry())
    for reason in ("fail_open", "disabled", "observe"):
        assert seen[f'wardgate_unenforced_total{{reason="{reason}",stage="policy"}}'] == 0
    assert set(REASONS) <= {name.split('"')[1] for name in seen if name.startswith("wardgate_refusals_total")}


def test_records_are_asked_for_when_scraped():
    watch = telemetry()
    stats = RecordStats(written=7, dropped={"overflow": 2}, queue_length=3, last_write_s=1_700_000_000.5)
    watch.metrics.watch_records("sqlite", lambda: stats)
    seen = series(watch)
    assert seen['wardgate_decision_records_total{sink="sqlite"}'] == 7
    assert seen['wardgate_decision_records_dropped_total{reason="overflow",sink="sqlite"}'] == 2
    assert seen['wardgate_decision_records_dropped_total{reason="write_error",sink="sqlite"}'] == 0
    assert seen['wardgate_decision_records_queue_length{sink="sqlite"}'] == 3
    assert seen['wardgate_decision_records_last_write_timestamp_seconds{sink="sqlite"}'] == 1_700_000_000.5


def test_sessions_are_asked_for_when_scraped_and_no_label_is_made_up():
    watch = telemetry()
    exceeded = {("agent", "writes"): 3, ("tenant", "made up"): 1}
    watch.metrics.watch_sessions(lambda: SessionStats(live=4, opened={"agent": 2}, exceeded=exceeded))
    seen = series(watch)
    assert seen["wardgate_sessions_live"] == 4
    assert seen['wardgate_sessions_opened_total{by="agent"}'] == 2
    assert seen['wardgate_sessions_opened_total{by="token"}'] == 0
    assert seen['wardgate_budget_refusals_total{metric="writes",scope="agent"}'] == 3
    assert not any("made up" in name for name in seen)


def test_what_stands_now_is_asked_for_at_each_scrape_and_nothing_that_is_over_stays():
    watch = telemetry()
    stands = {("agent", "open"): 2.0}
    watch.metrics.watch(watch.metrics.breakers, lambda: stands)
    assert series(watch)['wardgate_breakers{scope="agent",state="open"}'] == 2
    stands.clear()
    seen = series(watch)
    assert seen['wardgate_breakers{scope="agent",state="open"}'] == 0, "a zero, where it is known ahead"
    watch.metrics.watch(watch.metrics.upstream_up, lambda: {("git",): 1.0} if not stands else {})
    assert series(watch)['wardgate_upstream_up{upstream="git"}'] == 1
    stands[("agent", "open")] = 1.0
    assert not [name for name in series(watch) if name.startswith("wardgate_upstream_up")]


def test_approvals_wait_in_chains_that_are_configured_and_since_when_the_oldest_was_opened():
    watch = telemetry()
    watch.metrics.declare_chains(["high", "low"])
    pending = [("high", 2, 200.0), ("high", 1, 100.0), ("gone", 1, 50.0)]
    watch.metrics.approvals_waiting({"pending": 4}, pending)
    seen = series(watch)
    assert seen['wardgate_approvals_pending{chain="high"}'] == 3
    assert seen['wardgate_approvals_pending{chain="low"}'] == 0
    assert seen['wardgate_approvals_pending{chain="_other"}'] == 1
    assert seen['wardgate_approvals_oldest_pending_timestamp_seconds{chain="high"}'] == 100
    assert 'wardgate_approvals_oldest_pending_timestamp_seconds{chain="low"}' not in seen
    watch.metrics.approvals_waiting({})
    assert not [name for name in series(watch) if name.startswith("wardgate_approvals_oldest")]


def test_what_policy_and_upstreams_will_be_watched_for_is_there_before_it_happens():
    seen = series(telemetry())
    assert seen['wardgate_policy_rule_hits_total{rule_id="base.deny"}'] == 0
    for result in ("ok", "upstream_unavailable", "upstream_timeout", "upstream_lost"):
        assert seen[f'wardgate_upstream_requests_total{{result="{result}",upstream="git"}}'] == 0


async def test_a_call_let_through_an_exhausted_budget_in_observe_mode_is_counted_under_its_stage():
    watch = telemetry()
    over = Facts(refusal=Refusal(code="budget_exceeded", message="nothing left"))
    await governed(watch, tool=replace(LOG, mode="observe"), facts=over)
    assert series(watch)['wardgate_unenforced_total{reason="observe",stage="session"}'] == 1


def test_only_the_active_revision_is_shown():
    watch = telemetry()
    watch.metrics.bundle_activated("aaa", 1.0)
    watch.metrics.bundle_activated("bbb", 2.0)
    watch.metrics.bundle_failed()
    seen = series(watch)
    assert [name for name in seen if name.startswith("wardgate_bundle_info")] == [
        'wardgate_bundle_info{revision="bbb"}'
    ]
    assert seen['wardgate_bundle_activations_total{result="failure"}'] == 1
    assert seen["wardgate_bundle_last_activation_timestamp_seconds"] == 2.0


def test_a_tool_that_left_the_catalog_leaves_the_metrics():
    watch = telemetry()
    watch.decided(call(), ALLOW, "allow")
    watch.declare(upstreams=["git"], tools=[], rules=[], codes=[])
    assert not [name for name in series(watch) if 'tool="log"' in name or "base.reads" in name]


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8)), max_size=60))
def test_whatever_is_named_the_series_stay_bounded(names):
    """Agents and upstreams choose names; they must not be able to choose how much memory metrics take."""
    watch = telemetry(max_tool_labels=5)
    watch.declare(upstreams=["git"], tools=[_tool("git", name) for _, name, _ in names], rules=[], codes=[])
    before = len(series(watch))
    for upstream, name, text in names:
        asked = call(tool=_tool(upstream, name), surface=text)
        token = watch.call_started(asked)
        finding = Finding(code=text, message=text, rule=text)
        decision = replace(ALLOW, findings=(finding,), engine=text)
        watch.decided(asked, decision, "allow")
        watch.refused(text, text)
        watch.unenforced(text, text)
        watch.call_ended(token, asked, None)
    after = series(watch)
    shown = {name for name in after if name.startswith("wardgate_tool_calls_total")}
    assert len(shown) <= 6
    histogram_series = (len(specs.CALL) + len(specs.FAST) + 6) + (len(specs.FAST) + 3)
    surfaces = len(specs.SURFACES) + 1  # those there are, and all others as one
    assert len(after) - before <= 6 + surfaces * (histogram_series + 12)


def test_a_collapsed_value_is_counted():
    watch = telemetry()
    watch.decided(call(tool=_tool("git", "made-up")), ALLOW, "allow")
    seen = series(watch)
    assert seen['wardgate_tool_calls_total{action="allow",server="git",tool="_other"}'] == 1
    assert seen['wardgate_label_values_collapsed_total{label="tool"}'] == 1


def test_two_gateways_in_one_process_do_not_mix():
    one, other = telemetry(), telemetry()
    one.refused("unknown_tool", "mcp")
    assert series(other)['wardgate_refusals_total{code="unknown_tool"}'] == 0


async def test_exemplars_point_to_traced_calls_only():
    with collector() as receiver:
        watch = telemetry(sample=1.0, otlp_endpoint=receiver.url)
        await governed(watch)
        watch.shutdown()
        scrape = watch.metrics.render(OPENMETRICS)[1].decode()
        trace_id = receiver.spans[0].trace_id.hex()
        assert f'# {{trace_id="{trace_id}"}}' in scrape
    untraced = telemetry(sample=0.0)
    await governed(untraced)
    assert "trace_id" not in untraced.metrics.render(OPENMETRICS)[1].decode()


async def test_a_scraper_that_asks_for_openmetrics_gets_it():
    with collector() as receiver:
        watch = telemetry(sample=1.0, otlp_endpoint=receiver.url)
        await governed(watch)
        watch.shutdown()
        content_type, body = watch.metrics.render(OPENMETRICS)
        families = {family.name for family in parse_openmetrics(body.decode())}
    assert content_type.startswith("application/openmetrics-text")
    assert "wardgate_requests" in families and "process_cpu_seconds" in families
    assert watch.metrics.render("*/*")[0].startswith("text/plain")


def test_every_metric_listed_is_in_the_scrape_and_the_other_way_round():
    metrics = Metrics(version="0.1.0")
    shown = {family.name for family in metrics.collect()}
    assert shown == {spec.name.removesuffix("_total") for spec in specs.SPECS}


async def test_promtool_finds_nothing_to_complain_about():
    promtool = shutil.which("promtool")
    if promtool is None:
        if os.environ.get("CI") == "true":
            pytest.fail("promtool is missing: install Debian's prometheus package")
        pytest.skip("promtool is not installed (Debian: prometheus)")
    watch = telemetry()
    watch.metrics.bundle_activated("aaa", time.time())
    watch.metrics.watch_records("sqlite", RecordStats)
    await governed(watch)
    await governed(watch, verdicts=[DENY])
    text = watch.metrics.render("")[1]
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def _tool(upstream, name):
    return replace(LOG, upstream=upstream, name=name)
