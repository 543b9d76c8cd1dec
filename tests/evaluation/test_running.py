"""The evaluation against a real gateway: small, so that it is part of every test run."""

from __future__ import annotations

import msgspec

from tests.evaluation import cases
from tests.evaluation.configurations import FRONTIER
from tests.evaluation.run import run


def test_replays_go_through_the_gateway_and_effects_are_seen_at_the_tool_server(tmp_path):
    suites = [each for each in cases.load() if each.name == "bank"]
    few = [
        msgspec.structs.replace(
            suite, benign=suite.benign[:4], written=suite.written[:3], crossed=suite.crossed[:2]
        )
        for suite in suites
    ]
    combined = next(each for each in FRONTIER if each.name == "combined")
    result = run(few, combined, tmp_path / "gateway")
    assert len(result.replays) == 9
    for each in result.replays:
        for played in (each.alone, each.careless, each.correct):
            for made in played.made:
                assert made.verdict in ("allow", "escalate", "deny", "withheld", "skipped")
                # What the gateway did not let through did not happen.
                assert not made.effect or made.verdict in ("allow", "withheld") or made.approved, (
                    played.case.id,
                    made,
                )
    questions = [
        each for each in result.replays if each.alone.case.kind == "benign" and not each.alone.case.task.done
    ]
    assert questions and all(each.alone.done for each in questions)
    # A person who knows what the user wants approves nothing that others told the agent.
    for each in result.replays:
        for made in each.correct.made:
            assert not (made.injected and made.approved)
