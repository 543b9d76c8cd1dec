"""A policy in a process of its own decides as it would here, and takes nobody with it."""

from __future__ import annotations

import threading
import time

import pytest

from gateway.model import Facts
from gateway.policy import EmbeddedPolicy, archive, read_bundle
from gateway.policy.archive import BadBundle
from gateway.policy.shadow import QUEUE, Shadow, compare
from gateway.policy.trial import Trial
from gateway.policy.worker import Load, Said, said
from tests.policy.bundles import FILES
from tests.policy.helpers import call, decide, principal, rule, tool

LIMIT = {
    "pay.rego": rule(
        "pay",
        'deny contains {"code": "stop", "message": "m"} if input.call.args.amount > data.limit\n'
        'escalate contains {"code": "ask", "message": "m"} if input.agent.labels[_] == "new"\n'
        'allow contains {"code": "fine", "message": "m"} if input.session.calls < 5\n'
        'obligation contains {"kind": "label", "value": ["paid"]} if input.call.args.amount > 1',
    ).encode(),
    "data.json": b'{"limit": 100}',
}
SLOW = {
    **FILES,
    "slow_test.rego": b"package slow_test\nimport rego.v1\n"
    b"test_it if count([1 | some a in n; some b in n; some c in n; some d in n; a + b + c + d < 0]) > 0\n"
    b'n := [i | some i, _ in split("' + b"," * 300 + b'", ",")]\n',
}


def load(files, **more) -> Load:
    return Load(raw=archive.write(files), pack=None, label="b", self_test=True, **more)


def calls():
    for amount in (1, 50, 101):
        for labels in ((), ("new",)):
            for made in (1, 9):
                asked = call({"amount": amount}, on=tool("bank/pay"), by=principal(labels=labels))
                yield asked, Facts(fast={"session": {"calls": made}})


def test_it_decides_exactly_as_it_would_here():
    here = EmbeddedPolicy(read_bundle(None, None, archive.read(archive.write(LIMIT)), label="b"))
    wanted = [said(decide(here, asked, facts)) for asked, facts in calls()]
    with Trial() as trial:
        examined, bundle = trial.load(load(LIMIT, bundle=True))
        assert trial.decide(list(calls())) == wanted
    assert bundle is not None and bundle.revision == examined.revision == here.revision
    handed_over = EmbeddedPolicy(bundle)
    assert [said(decide(handed_over, asked, facts)) for asked, facts in calls()] == wanted
    assert {each.verdict for each in wanted} == {"allow", "deny", "escalate"}
    assert any(each.duties for each in wanted)


def test_a_test_that_does_not_end_is_ended():
    began = time.monotonic()
    with Trial() as trial, pytest.raises(BadBundle, match="took longer than 3 s"):
        trial.load(load(SLOW), within_s=3)
    assert time.monotonic() - began < 20


def test_a_process_that_dies_is_a_sentence():
    with Trial() as trial:
        trial.load(load(LIMIT))
        trial.kill()
        with pytest.raises(BadBundle, match="ended with -9"):
            trial.decide(list(calls()))


def test_it_has_none_of_the_gateways_environment(monkeypatch):
    monkeypatch.setenv("WARDGATE_STORAGE_KEY", "secret")
    with Trial() as trial:
        from pathlib import Path

        environment = Path(f"/proc/{trial._process.pid}/environ").read_bytes()
    assert b"WARDGATE_STORAGE_KEY" not in environment


@pytest.mark.parametrize(
    ("was", "now", "change"),
    [
        (("allow", "fine"), ("allow", "fine"), "same"),
        (("allow", "fine"), ("allow", "other"), "changed"),
        (("allow", "fine"), ("escalate", "ask"), "tightened"),
        (("escalate", "ask"), ("deny", "stop"), "tightened"),
        (("deny", "stop"), ("escalate", "ask"), "loosened"),
        (("deny", "stop"), ("allow", "fine"), "loosened"),
        (("allow", "fine"), ("deny", "policy_error"), "error"),
        (("deny", "policy_error"), ("deny", "policy_error"), "same"),
        (("deny", "policy_error"), ("allow", "fine"), "loosened"),
    ],
)
def test_how_a_call_would_have_fared(was, now, change):
    first, second = (Said(verdict=v, code=c, rule="r", codes=(c,)) for v, c in (was, now))
    assert compare(first, second) == change


def test_what_does_not_fit_is_dropped_and_counted_and_a_share_is_a_share():
    shadow = Shadow(load(LIMIT), percent=100, digest="d", report=lambda found: None)  # never started
    asked, facts = next(calls())
    here = EmbeddedPolicy(read_bundle(None, None, archive.read(archive.write(LIMIT)), label="b"))
    decision = decide(here, asked, facts)
    began = time.perf_counter()
    for _ in range(QUEUE + 10):
        shadow.offer(asked, facts, decision)
    assert (time.perf_counter() - began) / QUEUE < 50e-6
    assert shadow.counts["dropped"] == 10
    quarter = Shadow(load(LIMIT), percent=25, digest="d", report=lambda found: None)
    for _ in range(2000):
        quarter.offer(asked, facts, decision)
    assert 350 < len(quarter._waiting) < 650


def test_a_candidate_that_fails_its_tests_ends_the_trial_and_says_so():
    failing = {**FILES, "x_test.rego": b"package x_test\nimport rego.v1\ntest_it if false\n"}
    shadow = Shadow(load(failing), percent=100, digest="d", report=lambda found: None)
    shadow.start()
    deadline = time.monotonic() + 30
    while not shadow.failure:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "x_test.test_it fails" in shadow.failure
    shadow.close()
    assert not any(thread.name == "policy shadow" for thread in threading.enumerate())
