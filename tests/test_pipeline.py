"""The way of one call: what happens in which order, and what never happens."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import pipeline, visible
from gateway.config import LimitsConfig
from gateway.model import Ask, Facts, Manifest, Obligation, Outcome, Pin
from gateway.reasons import REASONS
from tests.play import AGENT, Stage, tool, verdict, with_mode

WHOLE_WAY = ["resolve", "begin", "decide", "intent", "execute", "settle", "settled", "ended"]


def test_an_allowed_call_goes_the_whole_way_in_order():
    stage = Stage()
    answer = stage.run()
    assert stage.told == WHOLE_WAY
    assert answer.refusal is None and answer.result_json == b'{"content":[]}'


def test_a_denied_call_is_on_record_and_never_sent():
    stage = Stage(verdicts=[verdict("deny")])
    answer = stage.run()
    assert stage.told == ["resolve", "begin", "decide", "release", "record", "ended"]
    assert answer.action == "block" and answer.refusal.code == "no_rule_allows"
    assert stage.recorded == [("block", "deny", "no_rule_allows")]


def test_the_words_of_the_policy_reach_the_agent():
    refusal = Stage(verdicts=[verdict("deny", "amount_over_cap")]).run().refusal
    assert (refusal.code, refusal.message, refusal.rule) == ("amount_over_cap", "because deny", "test.rule")


def test_an_escalated_call_waits_for_a_person_and_is_not_sent():
    stage = Stage(verdicts=[verdict("escalate")])
    assert stage.run().refusal.code == "approvals_not_configured"
    assert "hold" in stage.told and not stage.sent


def test_an_escalated_call_that_was_approved_goes_on():
    stage = Stage(verdicts=[verdict("escalate")], held=None)
    assert stage.run().refusal is None
    assert stage.told.index("hold") < stage.told.index("intent") < stage.told.index("execute")


def test_what_is_sent_is_what_was_decided():
    stage = Stage()
    stage.run({"b": 1, "a": "é"})
    assert stage.sent == ['{"a":"é","b":1}'.encode()]


@pytest.mark.parametrize("fault", ["resolve", "begin", "decide", "hold", "intent"])
def test_a_fault_before_the_wire_is_a_refusal_and_nothing_is_sent(fault):
    stage = Stage(fail=fault, verdicts=[verdict("escalate" if fault == "hold" else "allow")])
    answer = stage.run()
    assert answer.refusal is not None and answer.refusal.code in REASONS
    assert not answer.result_json and not stage.sent


@pytest.mark.parametrize("fault", ["inspect", "settle", "settled"])
def test_a_fault_after_the_wire_shows_no_result(fault):
    stage = Stage(fail=fault, result=(verdict("allow"), b"{}"))
    answer = stage.run()
    assert stage.sent and not answer.result_json
    assert answer.refusal.code == "outcome_unrecorded" and not answer.refusal.retryable


@pytest.mark.parametrize("effect", ["in_flight", "in_doubt", "done"])
@pytest.mark.parametrize("mode", ["enforce", "observe"])
def test_an_effect_that_is_not_free_is_not_tried_again_in_any_mode(effect, mode):
    stage = Stage(facts=Facts(effect=effect), tool=tool("irreversible"))
    answer = stage.run(principal=with_mode(mode))
    assert not stage.sent
    assert answer.refusal.code == ("in_doubt" if effect == "in_doubt" else "duplicate_effect")


def test_who_may_not_do_it_does_not_learn_whether_it_was_done():
    stage = Stage(verdicts=[verdict("deny")], facts=Facts(effect="done"), tool=tool("irreversible"))
    assert stage.run().refusal.code == "no_rule_allows"


def test_a_refusal_is_on_record_with_the_code_the_agent_got():
    stage = Stage(facts=Facts(effect="in_doubt"), tool=tool("irreversible"))
    stage.run()
    assert stage.recorded == [("block", "allow", "in_doubt")]


@pytest.mark.parametrize("name", ["deny", "escalate"])
@pytest.mark.parametrize("mode", ["observe", "warn"])
def test_in_observe_mode_the_verdict_is_recorded_and_the_call_is_made(name, mode):
    stage = Stage(verdicts=[verdict(name)])
    answer = stage.run(principal=with_mode(mode))
    assert answer.refusal is None and stage.sent
    assert stage.recorded == [("allow", name, stage.script["verdicts"][0].code)]
    assert stage.counted == [("policy" if name == "deny" else "approval", mode)]


def test_the_mode_of_an_upstream_is_enough_to_observe():
    stage = Stage(verdicts=[verdict("deny")], tool=tool(mode="observe"))
    assert stage.run().refusal is None


@pytest.mark.parametrize("status", ["in_doubt", "not_sent", "failed", "withheld"])
def test_an_outcome_that_is_no_answer_is_a_refusal_with_its_code(status):
    outcome = Outcome(status=status, code="upstream_timeout", result_json=b"leftover")
    stage = Stage(outcome=outcome)
    answer = stage.run()
    assert answer.refusal.code == "upstream_timeout" and not answer.result_json
    assert stage.told == WHOLE_WAY


@pytest.mark.parametrize("status", ["tool_error", "rpc_error"])
def test_an_error_the_tool_answers_with_is_relayed(status):
    outcome = Outcome(status=status, code="upstream_error", result_json=b"{1}", error_json=b"{2}")
    answer = Stage(outcome=outcome).run()
    assert answer.refusal is None and (answer.result_json, answer.error_json) == (b"{1}", b"{2}")


def test_a_result_that_policy_forbids_is_withheld():
    stage = Stage(result=(verdict("deny", "secret_in_result"), b"{}"))
    answer = stage.run()
    assert answer.refusal.code == "secret_in_result" and not answer.result_json
    assert answer.outcome.status == "withheld"


def test_a_redacted_result_is_what_is_shown():
    assert Stage(result=(verdict("allow"), b'{"redacted":1}')).run().result_json == b'{"redacted":1}'


def test_in_observe_mode_the_result_is_shown_and_the_difference_counted():
    stage = Stage(result=(verdict("deny"), b"{}"))
    assert stage.run(principal=with_mode("observe")).result_json == b'{"content":[]}'
    assert stage.counted == [("result", "observe")]


REDACT = Obligation(kind="redact", value={}, rule="r")


def test_a_call_that_policy_changed_is_decided_again_and_sent_as_changed():
    stage = Stage(
        verdicts=[verdict("allow", obligations=(REDACT,)), verdict("allow")], modified=[{"x": "[redacted]"}]
    )
    answer = stage.run()
    assert stage.told.count("decide") == 2
    assert stage.sent == [b'{"x":"[redacted]"}'] and answer.action == "modify"


def test_a_call_that_is_denied_as_changed_is_not_sent():
    stage = Stage(verdicts=[verdict("allow", obligations=(REDACT,)), verdict("deny")], modified=[{"x": 0}])
    assert stage.run().refusal.code == "no_rule_allows" and not stage.sent


def test_a_policy_that_changes_its_own_change_is_refused():
    stage = Stage(
        verdicts=[verdict("allow", obligations=(REDACT,)), verdict("allow", obligations=(REDACT,))],
        modified=[{"x": 0}, {"x": -1}],
    )
    assert stage.run().refusal.code == "modified_again" and not stage.sent


@pytest.mark.parametrize("args", [[], "text", 7, True])
def test_arguments_that_are_no_object_are_refused_before_policy(args):
    stage = Stage()
    assert stage.run(args).refusal.code == "invalid_arguments"
    assert "decide" not in stage.told and stage.noted == ["invalid_arguments"]


@pytest.mark.parametrize("args", [{"x": "y" * 300_000}, {"x": list(range(30_000))}])
def test_arguments_too_large_to_decide_are_refused_before_policy(args):
    stage = Stage()
    assert stage.run(args).refusal.code == "args_too_large"
    assert "decide" not in stage.told


def test_a_text_full_of_commas_is_one_value_and_not_too_many():
    assert Stage().run({"csv": "a,b,[c]," * 10_000}).refusal is None


def test_an_effect_key_without_its_argument_is_refused():
    stage = Stage(tool=tool(manifest=Manifest(effect_key="pay:{id}")))
    assert stage.run({"x": 1}).refusal.code == "invalid_arguments" and not stage.sent


def test_a_hidden_tool_cannot_be_called_by_guessing_its_name():
    stage = Stage(sees=False)
    assert stage.run().refusal.code == "not_visible" and not stage.sent


@pytest.mark.parametrize("who", [{"principal": with_mode("observe")}, {"on": tool(mode="observe")}])
def test_in_observe_mode_nothing_is_hidden(who):
    stage = Stage(sees=False, tool=who.get("on", tool()))
    assert stage.run(principal=who.get("principal", AGENT)).refusal is None
    assert stage.counted == [("list", "observe")]


def test_a_list_hides_only_where_policy_is_enforced():
    hidden, observed = tool(), tool(mode="observe", target="free/act", upstream="free")
    stage = Stage(sees=False)
    stage.tools = lambda kind, upstream=None: (hidden, observed)
    parts = stage.parts()
    assert visible.listed(parts, AGENT, "tool") == (observed,)
    assert visible.listed(parts, with_mode("observe"), "tool") == (hidden, observed)


def test_work_in_flight_is_bounded_and_the_refusal_says_when_to_retry():
    async def flood():
        stage = Stage(limits=LimitsConfig(in_flight_per_agent=2))
        gate = asyncio.Event()

        async def slow(call, emit):
            await gate.wait()
            return Outcome(status="ok", result_json=b"{}")

        stage.execute = slow
        calls = [asyncio.create_task(stage.ask()) for _ in range(2)]
        await asyncio.sleep(0.01)
        refused = await stage.ask()
        gate.set()
        answers = await asyncio.gather(*calls)
        after = await stage.ask()
        return stage, refused, [*answers, after]

    stage, refused, answers = asyncio.run(flood())
    assert refused.refusal.code == "overloaded" and refused.refusal.retry_after_ms == 1000
    assert all(answer.refusal is None for answer in answers)
    assert stage.limits.total == 0


def test_a_call_cut_off_while_it_is_out_is_recorded_as_in_doubt():
    async def cut():
        stage = Stage(tool=tool("irreversible"))

        async def never(call, emit):
            await asyncio.Event().wait()

        stage.execute = never
        task = asyncio.create_task(stage.ask())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return stage

    stage = asyncio.run(cut())
    assert stage.told[-3:] == ["settle", "settled", "ended"] and stage.limits.total == 0


FAULTS = ["", "resolve", "begin", "decide", "hold", "intent", "execute", "inspect", "settle", "settled"]


@given(
    fault=st.sampled_from(FAULTS),
    first=st.sampled_from(["allow", "deny", "escalate"]),
    effect=st.sampled_from(["free", "in_flight", "in_doubt", "done"]),
    held=st.booleans(),
    sees=st.booleans(),
    status=st.sampled_from(["ok", "tool_error", "rpc_error", "in_doubt", "not_sent", "failed", "withheld"]),
    result=st.sampled_from([None, "allow", "deny"]),
)
def test_nothing_is_ever_sent_without_an_allow_and_its_intent(
    fault, first, effect, held, sees, status, result
):
    script = {
        "fail": fault,
        "verdicts": [verdict(first)],
        "facts": Facts(effect=effect),
        "sees": sees,
        "outcome": Outcome(status=status, code="" if status == "ok" else "upstream_lost", result_json=b"R"),
        "result": None if result is None else (verdict(result), b"R"),
        "tool": tool("irreversible"),
    }
    if not held:
        script["held"] = None
    stage = Stage(**script)
    answer = stage.run(principal=AGENT)
    permitted = sees and effect == "free" and (first == "allow" or (first == "escalate" and not held))
    if stage.sent:
        assert permitted
        assert stage.told.index("intent") < stage.told.index("execute")
    else:
        assert answer.refusal is not None
    assert (answer.refusal is None) == bool(answer.result_json)
    assert stage.limits.total == 0


@pytest.mark.parametrize("mode", ["enforce", "warn", "observe"])
def test_a_tool_in_quarantine_is_refused_with_its_reason_in_any_mode_and_nothing_is_sent(mode):
    held = tool(pin=Pin(state="changed", quarantined=True), mode=mode)
    stage = Stage(tool=held)
    answer = stage.run(principal=with_mode(mode))
    assert answer.refusal.code == "tool_quarantined" and not answer.refusal.retryable
    assert stage.told == ["resolve"] and not stage.sent and stage.noted == ["tool_quarantined"]


def test_who_may_not_see_a_tool_does_not_learn_that_it_is_in_quarantine():
    stage = Stage(sees=False, tool=tool(pin=Pin(state="new", quarantined=True)))
    assert stage.run().refusal.code == "not_visible"


def test_a_flagged_tool_that_is_not_held_is_called():
    stage = Stage(tool=tool(pin=Pin(state="changed", flags=("suspicious",))))
    assert stage.run().refusal is None


# --------------------------------------------------- the two halves, for tools that run elsewhere


def decided(stage: Stage, **changes):
    return asyncio.run(stage.decide(**changes))


def test_a_decision_ends_with_the_intent_on_record_and_sends_nothing():
    stage = Stage(tool=tool("irreversible", elsewhere=True))
    cleared = decided(stage)
    assert isinstance(cleared, pipeline.Cleared) and cleared.call.args_json == b'{"x":1}'
    assert stage.told == ["resolve", "begin", "decide", "intent", "ended"] and not stage.sent
    assert stage.limits.total == 0


def test_settling_goes_the_rest_of_the_way():
    stage = Stage(tool=tool("irreversible", elsewhere=True), result=(verdict("allow"), b'{"shown":1}'))
    cleared = decided(stage)
    answer = asyncio.run(
        pipeline.settle(stage.parts(), cleared, Outcome(status="ok", result_json=b'{"told":1}'))
    )
    assert stage.told[5:] == ["inspect", "settle", "settled", "settled ok"]
    assert answer.result_json == b'{"shown":1}' and answer.refusal is None


@pytest.mark.parametrize("fault", ["resolve", "begin", "decide", "hold", "intent"])
def test_a_fault_while_deciding_is_a_refusal_and_never_a_decision_to_carry_out(fault):
    stage = Stage(fail=fault, verdicts=[verdict("escalate" if fault == "hold" else "allow")])
    answer = decided(stage)
    assert not isinstance(answer, pipeline.Cleared) and answer.refusal.code in REASONS
    assert stage.limits.total == 0


@pytest.mark.parametrize("fault", ["inspect", "settle", "settled"])
def test_a_fault_while_settling_shows_no_result(fault):
    stage = Stage(fail=fault, result=(verdict("allow"), b"{}"))
    cleared = decided(stage)
    answer = asyncio.run(pipeline.settle(stage.parts(), cleared, Outcome(status="ok", result_json=b"{}")))
    assert answer.refusal.code == "outcome_unrecorded" and not answer.result_json


def test_a_decision_carries_the_arguments_as_policy_changed_them():
    stage = Stage(
        verdicts=[verdict("allow", obligations=(REDACT,)), verdict("allow")], modified=[{"x": "[redacted]"}]
    )
    cleared = decided(stage)
    assert cleared.action == "modify" and cleared.call.args_json == b'{"x":"[redacted]"}'


def test_a_tool_that_runs_elsewhere_is_not_called_through_the_gateway():
    stage = Stage(tool=tool(elsewhere=True))
    assert stage.run().refusal.code == "runs_elsewhere"
    assert stage.told == ["resolve"] and stage.noted == ["runs_elsewhere"]


def test_the_outcome_nobody_reports_is_recorded_as_unobserved_and_refuses_nothing():
    stage = Stage(tool=tool("irreversible", elsewhere=True))
    answer = asyncio.run(pipeline.settle(stage.parts(), decided(stage), Outcome(status="unobserved")))
    assert answer.refusal is None and answer.outcome.status == "unobserved"


class Unreadable(Stage):
    """A gateway that cannot read the session of a request."""

    def parts(self):
        parts = super().parts()

        class State(type(parts.state)):
            async def enter(self, ask):
                raise OSError("disk")

        return msgspec.structs.replace(parts, state=State(self))


@pytest.mark.parametrize("half", [pipeline.call, pipeline.decide])
def test_a_session_that_cannot_be_read_refuses(half):
    stage = Unreadable()
    ask = Ask(principal=AGENT, surface="mcp", kind="tool", upstream="up", name="act", args={})
    answer = asyncio.run(half(stage.parts(), ask))
    assert answer.refusal is not None and answer.refusal.code == "gateway_error"
    assert "execute" not in stage.told and stage.limits.total == 0


class Deciding(Stage):
    """A gateway whose policy takes its time, or breaks."""

    def __init__(self, fault: Exception | None = None) -> None:
        super().__init__()
        self.fault = fault
        self.asked = asyncio.Event()

    def parts(self):
        parts = super().parts()
        stage = self

        class Policy(type(parts.policy)):
            async def call(self, call, facts):
                stage.asked.set()
                if stage.fault is not None:
                    raise stage.fault
                await asyncio.sleep(60)

        return msgspec.structs.replace(parts, policy=Policy(self))


@pytest.mark.parametrize("half", [pipeline.call, pipeline.decide])
def test_what_a_call_reserved_is_given_back_when_it_is_given_up_while_it_is_decided(half):
    stage = Deciding()

    async def run():
        ask = Ask(principal=AGENT, surface="mcp", kind="tool", upstream="up", name="act", args={})
        task = asyncio.create_task(half(stage.parts(), ask))
        await stage.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert stage.told.count("release") == 1 and "execute" not in stage.told


@pytest.mark.parametrize("half", [pipeline.call, pipeline.decide])
def test_what_a_call_reserved_is_given_back_when_deciding_breaks(half):
    stage = Deciding(RuntimeError("broken"))
    ask = Ask(principal=AGENT, surface="mcp", kind="tool", upstream="up", name="act", args={})
    answer = asyncio.run(half(stage.parts(), ask))
    assert answer.refusal is not None and answer.refusal.code == "gateway_error"
    assert stage.told.count("release") == 1 and "execute" not in stage.told
