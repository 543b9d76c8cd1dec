"""The model check itself: the machine holds, and every variant known to be wrong is found wrong."""

from __future__ import annotations

import pytest

from tests.approvals.model import BAD, GOOD, explore

MUST_SHOW = {
    "no compare-and-set": "the effect happened twice",
    "no answer is recorded as failed": "recorded as failed, and the effect exists",
    "a lapse makes it approved again": "the effect happened twice",
    "what is in doubt may be approved again": "recorded as cancelled, and the effect exists",
    "retry, with an unbounded pause between check and wire": "the effect happened twice",
    "retry of a tool that is not idempotent": "the effect happened twice",
    "unbounded pause before the wire, resolved meanwhile": "recorded as failed, and the effect exists",
    "policy is not asked again at the claim": "claimed although policy says no",
}


@pytest.mark.parametrize("name", GOOD)
def test_the_machine_as_built_has_no_bad_history(name):
    assert explore(GOOD[name]).violations == {}


@pytest.mark.parametrize("name", BAD)
def test_what_is_known_to_be_wrong_is_found_wrong(name):
    assert MUST_SHOW[name] in explore(BAD[name]).violations
