"""Reason codes are words that people look up, and their texts are sentences."""

from __future__ import annotations

import re

import pytest

from gateway.reasons import REASONS, sentence


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("above the limit", "Above the limit."),
        ("bank/pay cannot be undone", "bank/pay cannot be undone."),
        ("evil.example is not listed.", "evil.example is not listed."),
        ("did it really?", "Did it really?"),
        ("  ", ""),
    ],
)
def test_texts_of_a_policy_follow_one_another_as_sentences(text, said):
    assert sentence(text) == said


def test_every_reason_is_a_code_with_sentences_and_a_remedy():
    for code, reason in REASONS.items():
        assert re.fullmatch(r"[a-z][a-z_]*", code)
        assert reason.title
        for text in (reason.message, reason.remedy):
            assert sentence(text) == text, code


def test_what_may_have_had_an_effect_never_invites_to_try_again():
    for code in (
        "upstream_timeout",
        "upstream_lost",
        "upstream_bad_answer",
        "in_doubt",
        "outcome_unrecorded",
    ):
        assert not REASONS[code].retryable
