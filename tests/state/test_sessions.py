"""Which session a call is in, what it may use there, and what it leaves behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.desk import Desk
from gateway.errors import BadMandate, Refused
from gateway.model import Cost, Outcome
from gateway.ports import Shown
from gateway.sessions.budgets import Limit
from gateway.sessions.mandate import Ceiling, parse
from gateway.sessions.rules import SessionRules
from gateway.storage.sessions import Act
from tests.state.world import AGENT, DOUBT, NOT_SENT, OK, SEEN, Time, living, tool

LOOK = tool("look")
WEB = tool("web", integrity="untrusted")
FILES = tool("files", confidentiality=2)
NOTE = tool("note", "reversible")
PAY = tool("pay", "irreversible", cost=Cost(arguments="/amount"))
MANDATE = {"objective": "notes", "tools": ["u/*"]}
MINTS = {("t", "bot"): Ceiling(agents=("bot", "child"))}


def mandate(**said):
    return parse({**MANDATE, **said}, now_ns=0)


def rules(**said) -> SessionRules:
    return SessionRules(**said)


# ------------------------------------------------------------------------------------- which session


async def test_whoever_names_none_is_always_in_the_same_session(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db") as world:
        one = (await world.facts()).fast["session"]["id"]
        other = (await world.facts()).fast["session"]["id"]
        assert one == other


@pytest.mark.parametrize("change", [{"credential": "key-2"}, {"subject": "ann"}, {"tenant": "other"}])
async def test_another_credential_user_or_tenant_is_another_session(tmp_path: Path, change) -> None:
    async with living(tmp_path / "w.db") as world:
        await world.call(WEB)
        facts = await world.facts(principal=replace(AGENT, **change))
        assert facts.fast["session"]["integrity"] == "trusted"


@pytest.mark.parametrize("change", [{"agent": "other"}, {"subject": "ann"}, {"tenant": "other"}])
async def test_a_session_of_somebody_else_is_not_found(tmp_path: Path, change) -> None:
    async with living(tmp_path / "w.db") as world:
        opened = await world.state.sessions.open(
            tenant="t", agent="bot", subject=None, mandate=MANDATE, by="operator"
        )
        assert await world.state.enter(world.ask(session=opened.whose.id)) == opened.whose.id
        with pytest.raises(Refused) as refused:
            await world.state.enter(world.ask(replace(AGENT, **change), opened.whose.id))
        assert refused.value.code == "no_such_session"


@pytest.mark.parametrize("named", ["s-" + "0" * 32, "mine", "x" * 1000])
async def test_a_name_nobody_gave_opens_nothing(tmp_path: Path, named) -> None:
    async with living(tmp_path / "w.db") as world:
        with pytest.raises(Refused) as refused:
            await world.state.enter(world.ask(session=named))
        assert refused.value.code == "no_such_session"


async def test_only_who_may_open_sessions_opens_one_by_naming_it(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db") as world:
        with pytest.raises(Refused) as refused:
            await world.state.enter(world.ask(session="job-1", mandate=MANDATE))
        assert refused.value.code == "may_not_open_sessions"
    async with living(tmp_path / "w.db", rules(mints=MINTS)) as world:
        first = await world.state.enter(world.ask(session="job-1", mandate=MANDATE))
        assert await world.state.enter(world.ask(session="job-1", mandate=MANDATE)) == first
        assert await world.state.enter(world.ask(session="job-1")) == first
        assert await world.state.enter(world.ask(session="job-2", mandate=MANDATE)) != first
        with pytest.raises(Refused) as refused:
            await world.state.enter(world.ask(session="job-1", mandate={**MANDATE, "tools": ["u/*", "v/*"]}))
        assert refused.value.code == "bad_mandate"


async def test_calls_made_at_once_under_a_new_name_are_in_one_session(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db", rules(mints=MINTS)) as world:
        ask = world.ask(session="task", mandate={**MANDATE, "budgets": {"calls": 2}})
        entered = await asyncio.gather(*(world.state.enter(ask) for _ in range(5)))
        assert len(set(entered)) == 1


async def test_what_is_listed_is_judged_by_the_session_that_a_token_or_a_name_stands_for(
    tmp_path: Path,
) -> None:
    async with living(tmp_path / "w.db", rules(mints=MINTS)) as world:
        token = b'{"id":"t1","mandate":{"objective":"x","tools":["u/look"]}}'
        holder = replace(AGENT, mandate_json=token)
        await world.state.enter(world.ask(holder))
        assert world.state.slow(holder).slow["mandate"]["tools"] == ["u/look"]
        await world.state.enter(world.ask(session="task", mandate=MANDATE))
        assert world.state.slow(AGENT, "task").slow["mandate"]["tools"] == ["u/*"]
        assert not world.state.slow(AGENT, "another").slow and not world.state.slow(AGENT).slow


async def test_the_same_mandate_said_again_later_is_the_same_though_it_ends_by_a_time_to_live(
    tmp_path: Path,
) -> None:
    mints = {("t", "bot"): Ceiling(agents=("bot",), max_ttl_s=3600)}
    async with living(tmp_path / "w.db", rules(mints=mints)) as world:
        first = await world.state.enter(world.ask(session="task", mandate=MANDATE))
        world.clock.passes(5)
        assert await world.state.enter(world.ask(session="task", mandate=MANDATE)) == first
        world.clock.passes(3600)
        assert (await world.facts(session=first)).refusal.code == "mandate_expired"


async def test_another_mandate_under_the_same_name_is_told_as_what_it_is(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db", rules(mints=MINTS)) as world:
        await world.state.enter(world.ask(session="task", mandate=MANDATE))
        for session, said in (("task", "opened with"), ("", "no session")):
            with pytest.raises(BadMandate) as bad:
                await world.state.enter(world.ask(session=session, mandate={**MANDATE, "objective": "more"}))
            assert said in bad.value.faults[0].what


async def test_a_token_without_its_scopes_opens_and_ends_nothing(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db", rules(mints=MINTS)) as world:
        desk = Desk(world.remembered, lambda: pytest.fail("the configuration is not asked"))
        desk.may_open(AGENT, "child", None)
        poor = replace(AGENT, missing_scopes=("call",))
        with pytest.raises(Refused, match="insufficient_scope"):
            desk.may_open(poor, "child", None)
        with pytest.raises(Refused, match="insufficient_scope"):
            await desk.close_for(poor, "s-" + "0" * 32, "")


async def test_a_token_that_delegates_is_good_for_its_own_session_only(tmp_path: Path) -> None:
    token = b'{"id":"task-1","mandate":{"objective":"x","tools":["u/look"]}}'
    holder = replace(AGENT, mandate_json=token)
    async with living(tmp_path / "w.db") as world:
        session = await world.state.enter(world.ask(holder))
        assert (await world.facts(LOOK, principal=holder)).slow["mandate"]["tools"] == ["u/look"]
        assert session != await world.state.enter(world.ask(AGENT))
        with pytest.raises(Refused):
            await world.state.enter(world.ask(holder, session="other"))
        wider = replace(holder, mandate_json=token.replace(b"u/look", b"u/*"))
        with pytest.raises(Refused) as refused:
            await world.state.enter(world.ask(wider))
        assert refused.value.code == "bad_mandate"


async def test_a_session_that_was_closed_is_not_used_again(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db") as world:
        sessions = world.state.sessions
        parent = await sessions.open(tenant="t", agent="bot", subject=None, mandate=MANDATE, by="operator")
        child = await sessions.open(
            tenant="t", agent="bot", subject=None, mandate=None, by="bot", parent=parent.whose.id
        )
        act = Act(session=parent.whose.id, tenant="t", at_ns=1, act="close", by="ann", note="enough")
        world.state.acted(replace(act, seq=world.remembered.store.act(act)))
        for each in (parent, child):
            with pytest.raises(Refused) as refused:
                await world.state.enter(world.ask(session=each.whose.id))
            assert refused.value.code == "session_closed", "and nothing that was delegated from it"


async def test_a_rolling_session_started_anew_is_clean_and_its_budget_is_not_refilled(tmp_path: Path) -> None:
    given = mandate(budgets={"calls": 3})
    async with living(tmp_path / "w.db", rules(mandates={("t", "bot"): given})) as world:
        await world.call(WEB)
        await world.call(WEB)
        await world.remembered.keeper.save()
        session = await world.state.enter(world.ask())
        act = Act(session=session, tenant="t", at_ns=1, act="close", by="ann")
        world.state.acted(replace(act, seq=world.remembered.store.act(act)))
        facts = await world.facts()
        assert facts.fast["session"]["id"] != session
        assert facts.fast["session"]["integrity"] == "trusted"
        assert facts.fast["budget"]["session"]["calls"]["used"] == 2
        assert (await world.call(LOOK)).refusal is None
        assert (await world.call(LOOK)).refusal.code == "budget_exceeded"


async def closed(world, session: str) -> None:
    act = Act(session=session, tenant="t", at_ns=1, act="close", by="ann")
    world.state.acted(replace(act, seq=world.remembered.store.act(act)))


async def test_what_was_under_way_when_a_session_was_started_anew_marks_the_new_one(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db") as world:
        await world.call(LOOK)
        await world.remembered.keeper.save()
        call, facts = await world.begin(WEB)
        await closed(world, call.session)
        assert (await world.facts()).fast["session"]["integrity"] == "trusted"
        await world.end(call, facts, OK, SEEN)
        assert (await world.facts()).fast["session"]["integrity"] == "untrusted"


# ------------------------------------------------------------------------------------------ mandates


async def test_a_mandate_is_a_fact_and_only_as_far_as_it_is_about_the_tool(tmp_path: Path) -> None:
    given = mandate(tools=["u/look", "u/pay", "v/*"], arguments={"u/pay": {"/amount": {"max": 5}}})
    async with living(tmp_path / "w.db", rules(mandates={("t", "bot"): given})) as world:
        seen = (await world.facts(LOOK)).slow["mandate"]
        assert (seen["tools"], seen["arguments"]) == (["u/look"], {})
        assert (await world.facts(PAY)).slow["mandate"]["arguments"] == {"u/pay": {"/amount": {"max": 5}}}


async def test_a_mandate_ends_at_its_time_whatever_the_wall_clock_says(tmp_path: Path) -> None:
    clock = Time()
    given = {**MANDATE, "ttl_s": 60}
    async with living(tmp_path / "w.db", rules(mints=MINTS), clock) as world:
        opened = await world.state.sessions.open(
            tenant="t", agent="bot", subject=None, mandate=given, by="operator"
        )
        session = opened.whose.id
        clock.wall_ns += 10**15
        assert (await world.facts(session=session)).refusal is None, "the wall clock was set forward"
        clock.wall_ns -= 10**16
        clock.passed_s += 61
        assert (await world.facts(session=session)).refusal.code == "mandate_expired"


async def test_what_is_delegated_on_stays_within_what_was_given(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db") as world:
        sessions = world.state.sessions
        parent = await sessions.open(
            tenant="t", agent="bot", subject=None, mandate={**MANDATE, "budgets": {"calls": 5}}, by="operator"
        )
        with pytest.raises(Refused) as refused:
            await sessions.open(
                tenant="t", agent="child", subject=None, by="bot", parent=parent.whose.id,
                mandate={"objective": "more", "tools": ["v/*"]},
            )  # fmt: skip
        assert refused.value.code == "bad_mandate"
        child = await sessions.open(
            tenant="t", agent="child", subject=None, by="bot", parent=parent.whose.id,
            mandate={"objective": "less", "tools": ["u/look"]},
        )  # fmt: skip
        assert child.mandate.tools == ("u/look",) and child.mandate.budgets["calls"] <= 5


# ------------------------------------------------------------------------------------------- budgets


async def test_the_sixth_call_of_five_is_refused_and_says_what_is_left(tmp_path: Path) -> None:
    given = mandate(budgets={"calls": 5})
    async with living(tmp_path / "w.db", rules(mandates={("t", "bot"): given})) as world:
        for _ in range(5):
            assert (await world.call(LOOK)).refusal is None
        refusal = (await world.call(LOOK)).refusal
        assert refusal.code == "budget_exceeded" and "0 are left" in refusal.message


async def test_calls_at_the_same_time_cannot_use_the_same_rest(tmp_path: Path) -> None:
    given = mandate(budgets={"writes": 1})
    async with living(tmp_path / "w.db", rules(mandates={("t", "bot"): given})) as world:
        _, first = await world.begin(NOTE, {"a": 1})
        _, second = await world.begin(NOTE, {"a": 2})
        assert first.refusal is None and second.refusal.code == "budget_exceeded"


async def test_the_first_calls_at_the_same_time_are_in_one_session(tmp_path: Path) -> None:
    given = mandate(budgets={"calls": 1})
    async with living(tmp_path / "w.db", rules(mandates={("t", "bot"): given})) as world:
        begun = await asyncio.gather(*(world.begin(LOOK) for _ in range(3)))
        assert [facts.refusal is None for _, facts in begun].count(True) == 1


@pytest.mark.parametrize(
    ("outcome", "used", "reserved"), [(OK, 7, 0), (NOT_SENT, 0, 0), (None, 0, 0), (DOUBT, 0, 7)]
)
async def test_what_a_call_costs_depends_on_what_became_of_it(
    tmp_path: Path, outcome, used, reserved
) -> None:
    given = mandate(budgets={"cost_micro_usd": 10_000_000})
    async with living(tmp_path / "w.db", rules(mandates={("t", "bot"): given})) as world:
        await world.call(PAY, {"amount": 7}, outcome=outcome)
        cost = (await world.facts(LOOK)).fast["budget"]["session"]["cost_micro_usd"]
        assert (cost["used"], cost["reserved"]) == (used * 1_000_000, reserved * 1_000_000)


@pytest.mark.parametrize("args", [{}, {"amount": "much"}, {"amount": -1}, {"amount": True}, {"amount": [5]}])
async def test_an_amount_that_cannot_be_read_refuses_the_call(tmp_path: Path, args) -> None:
    async with living(tmp_path / "w.db") as world:
        assert (await world.call(PAY, args)).refusal.code == "amount_unreadable"


async def test_agent_and_tenant_have_budgets_over_all_their_sessions(tmp_path: Path) -> None:
    limits = rules(
        agent_limits={("t", "bot"): (Limit("calls", 3, 3600),)},
        tenant_limits={"t": (Limit("calls", 4, 3600),)},
    )
    other = replace(AGENT, agent="other", credential="key-2")
    async with living(tmp_path / "w.db", limits) as world:
        await world.call(LOOK)
        await world.call(LOOK, principal=replace(AGENT, subject="ann"))
        await world.call(LOOK, principal=replace(AGENT, credential="key-3"))
        refusal = (await world.call(LOOK)).refusal
        assert refusal.code == "budget_exceeded" and "this agent" in refusal.message
        assert (await world.call(LOOK, principal=other)).refusal is None
        assert "this tenant" in (await world.call(LOOK, principal=other)).refusal.message


async def test_a_child_spends_what_its_parent_has(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db") as world:
        sessions = world.state.sessions
        parent = await sessions.open(
            tenant="t", agent="bot", subject=None, mandate={**MANDATE, "budgets": {"calls": 2}}, by="operator"
        )
        child = await sessions.open(
            tenant="t", agent="bot", subject=None, mandate=None, by="bot", parent=parent.whose.id
        )
        await world.call(LOOK, session=child.whose.id)
        await world.call(LOOK, session=parent.whose.id)
        for session in (child.whose.id, parent.whose.id):
            assert (await world.call(LOOK, session=session)).refusal.code == "budget_exceeded"
        facts = await world.facts(session=child.whose.id)
        assert facts.fast["budget"]["tree"]["calls"]["left"] == 0


async def test_setting_the_clock_refills_no_window(tmp_path: Path) -> None:
    clock = Time()
    limits = rules(agent_limits={("t", "bot"): (Limit("calls", 1, 3600),)})
    async with living(tmp_path / "w.db", limits, clock) as world:
        await world.call(LOOK)
        clock.wall_ns += 86_400 * 10**9
        assert (await world.call(LOOK)).refusal.code == "budget_exceeded"
        clock.wall_ns -= 3 * 86_400 * 10**9
        assert (await world.call(LOOK)).refusal.code == "budget_exceeded"
        clock.passes(3700)
        assert (await world.call(LOOK)).refusal is None


async def test_the_agents_own_reservations_count_before_policy_is_asked(tmp_path: Path) -> None:
    given = mandate(budgets={"writes": 5})
    async with living(tmp_path / "w.db", rules(mandates={("t", "bot"): given})) as world:
        _, facts = await world.begin(NOTE, {"a": 1})
        assert facts.fast["budget"]["session"]["writes"]["reserved"] == 1
        assert facts.reserved == {"calls": 1, "writes": 1}


# -------------------------------------------------------------------------------------------- labels


async def test_what_the_agent_reads_marks_its_session(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db") as world:
        await world.call(LOOK)
        clean = (await world.facts()).fast["session"]
        assert (clean["integrity"], clean["confidentiality"], clean["labels"]) == ("trusted", 0, [])
        await world.call(WEB)
        await world.call(FILES)
        marked = (await world.facts()).fast["session"]
        assert (marked["integrity"], marked["confidentiality"]) == ("untrusted", 2)
        assert set(marked["labels"]) == {"untrusted", "confidential"}
        assert marked["sources"] == ["u/web", "u/files"]


@pytest.mark.parametrize("outcome", [None, NOT_SENT, Outcome(status="withheld", code="result_withheld")])
async def test_what_the_agent_never_saw_marks_nothing(tmp_path: Path, outcome) -> None:
    async with living(tmp_path / "w.db") as world:
        await world.call(WEB, outcome=outcome)
        assert (await world.facts()).fast["session"]["integrity"] == "trusted"


async def test_an_answer_to_an_upstreams_question_is_not_read_by_the_agent(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db") as world:
        question = replace(WEB, kind="elicitation", name="elicitation/create", target="u/elicitation/create")
        await world.call(question)
        assert (await world.facts()).fast["session"]["integrity"] == "trusted"


async def test_a_rule_raises_and_takes_off_labels(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db") as world:
        await world.call(WEB, shown=Shown(OK.result_json, True, ("injection",)))
        assert set((await world.facts()).fast["session"]["labels"]) == {"untrusted", "injection"}
        await world.call(LOOK, shown=Shown(OK.result_json, True, (), ("injection", "untrusted")))
        assert (await world.facts()).fast["session"]["labels"] == []


async def test_what_one_call_raises_and_lowers_stays_raised(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db") as world:
        await world.call(LOOK, shown=Shown(OK.result_json, True, ("injection",), ("injection",)))
        assert (await world.facts()).fast["session"]["labels"] == ["injection"]


async def test_what_one_call_raises_again_and_lowers_stays_raised_too(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db") as world:
        for _ in range(2):
            await world.call(
                WEB, shown=Shown(OK.result_json, True, ("injection",), ("injection", "untrusted"))
            )
            assert set((await world.facts()).fast["session"]["labels"]) == {"injection", "untrusted"}


async def test_integrity_and_confidentiality_are_one_thing_whoever_raises_them(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db") as world:
        await world.call(LOOK, shown=Shown(OK.result_json, True, ("untrusted", "confidential")))
        facts = (await world.facts()).fast["session"]
        assert (facts["integrity"], facts["confidentiality"]) == ("untrusted", 2)
        assert sorted(facts["labels"]) == ["confidential", "untrusted"]
        await world.call(LOOK, shown=Shown(OK.result_json, True, (), ("untrusted",)))
        facts = (await world.facts()).fast["session"]
        assert (facts["integrity"], facts["labels"]) == ("trusted", ["confidential"])


async def test_taking_off_a_lower_level_leaves_the_higher_one(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db") as world:
        await world.call(tool("vault", confidentiality=3))
        await world.call(LOOK, shown=Shown(OK.result_json, True, (), ("internal",)))
        assert (await world.facts()).fast["session"]["confidentiality"] == 3
        await world.call(LOOK, shown=Shown(OK.result_json, True, (), ("internal", "confidential", "secret")))
        assert (await world.facts()).fast["session"]["confidentiality"] == 0


async def test_a_label_that_a_child_has_already_still_reaches_its_parent(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db") as world:
        sessions = world.state.sessions
        parent = await sessions.open(tenant="t", agent="bot", subject=None, mandate=MANDATE, by="operator")
        child = await sessions.open(
            tenant="t", agent="bot", subject=None, mandate=None, by="bot", parent=parent.whose.id
        )
        marked = Shown(OK.result_json, True, ("injection",))
        await world.call(LOOK, session=child.whose.id, shown=marked)
        await world.call(LOOK, session=parent.whose.id, shown=Shown(OK.result_json, True, (), ("injection",)))
        await world.call(LOOK, session=child.whose.id, shown=marked)
        assert (await world.facts(session=parent.whose.id)).fast["session"]["labels"] == ["injection"]


async def test_more_labels_than_there_is_place_for_count_as_the_worst(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db") as world:
        await world.call(LOOK, shown=Shown(OK.result_json, True, tuple(f"l{n}" for n in range(40))))
        facts = (await world.facts()).fast["session"]
        assert (facts["integrity"], facts["confidentiality"]) == ("untrusted", 3)


async def test_a_child_starts_with_what_its_parent_has_read_and_gives_back_what_it_reads(
    tmp_path: Path,
) -> None:
    async with living(tmp_path / "w.db") as world:
        sessions = world.state.sessions
        parent = await sessions.open(tenant="t", agent="bot", subject=None, mandate=MANDATE, by="operator")
        await world.call(WEB, session=parent.whose.id)
        child = await sessions.open(
            tenant="t", agent="bot", subject=None, mandate=None, by="bot", parent=parent.whose.id
        )
        assert (await world.facts(session=child.whose.id)).fast["session"]["integrity"] == "untrusted"
        await world.call(FILES, session=child.whose.id)
        assert (await world.facts(session=parent.whose.id)).fast["session"]["confidentiality"] == 2


async def test_a_mark_that_changes_nothing_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db") as world:
        durable = []
        for _ in range(2):
            call, facts = await world.begin(WEB)
            durable.append((await world.end(call, facts, OK, SEEN)).durable)
        assert durable == [True, False]


async def test_a_read_that_a_budget_counts_is_on_disk_before_it_is_answered(tmp_path: Path) -> None:
    given = mandate(budgets={"calls": 5})
    async with living(tmp_path / "w.db", rules(mandates={("t", "bot"): given})) as world:
        call, facts = await world.begin(LOOK)
        assert (await world.end(call, facts, OK, SEEN)).durable


# ------------------------------------------------------------------------------------------ progress


async def test_after_so_many_actions_somebody_has_to_look(tmp_path: Path) -> None:
    given = mandate(horizon={"actions": 3})
    async with living(tmp_path / "w.db", rules(mandates={("t", "bot"): given})) as world:
        for number in range(3):
            assert not (await world.call(NOTE, {"n": number})).fast["session"]["progress"]["due"]
            await world.call(LOOK)
        progress = (await world.facts()).fast["session"]["progress"]
        assert progress["due"] and progress["actions"] == 3
        await world.remembered.keeper.save()
        session = await world.state.enter(world.ask())
        act = Act(session=session, tenant="t", at_ns=1, act="checkpoint", by="ann")
        world.state.acted(replace(act, seq=world.remembered.store.act(act)))
        assert not (await world.facts()).fast["session"]["progress"]["due"]


async def test_a_milestone_that_a_tool_confirms_counts_as_having_looked(tmp_path: Path) -> None:
    proof = {"tool": "u/status", "arguments": {"branch": "main"}, "match": {"/state": "green"}}
    given = mandate(horizon={"actions": 2}, milestones=[{"name": "tests-pass", "verify": proof}])
    green = b'{"structuredContent":{"state":"green"}}'
    async with living(tmp_path / "w.db", rules(mandates={("t", "bot"): given})) as world:
        status = tool("status")
        for number in range(4):
            await world.call(NOTE, {"n": number})
        progress = (await world.facts()).fast["session"]["progress"]
        assert progress["due"] and "two periods" in progress["why"] and progress["open"] == ["tests-pass"]
        for args, result in (
            ({"branch": "other"}, green),
            ({"branch": "main"}, green.replace(b"green", b"red")),
        ):
            await world.call(status, args, outcome=Outcome(status="ok", result_json=result))
        assert (await world.facts()).fast["session"]["progress"]["due"], "neither proves it"
        await world.call(status, {"branch": "main"}, outcome=Outcome(status="ok", result_json=green))
        progress = (await world.facts()).fast["session"]["progress"]
        assert not progress["due"] and progress["verified"] == ["tests-pass"]
        for number in range(4):
            await world.call(NOTE, {"n": 10 + number})
            await world.call(status, {"branch": "main"}, outcome=Outcome(status="ok", result_json=green))
        assert (await world.facts()).fast["session"]["progress"]["due"], "the same one again is no progress"


async def test_a_session_that_ended_long_ago_is_forgotten_and_a_rolling_one_is_not(tmp_path: Path) -> None:
    clock = Time()
    async with living(tmp_path / "w.db", clock=clock) as world:
        await world.call(WEB)
        ids = [await world.state.enter(world.ask())]
        for ttl in (60, 100 * 86_400):
            opened = await world.state.sessions.open(
                tenant="t", agent="bot", subject=None, mandate={**MANDATE, "ttl_s": ttl}, by="ann"
            )
            ids.append(opened.whose.id)
        await world.remembered.keeper.save()
        clock.passes(40 * 86_400)
        store = world.remembered.store
        assert store.purge(world.state.now_ns()) == 1
        assert [store.load(each) is not None for each in ids] == [True, False, True]


async def test_facts_stay_small_whatever_a_session_has_done(tmp_path: Path) -> None:
    import msgspec

    long = "x" * 200
    given = mandate(
        objective="o" * 1000, budgets={"calls": 10**6, "writes": 10**6, "cost_micro_usd": 10**9},
        horizon={"actions": 10**6, "minutes": 500_000},
    )  # fmt: skip
    limits = rules(
        mandates={("t", "bot"): given},
        agent_limits={("t", "bot"): (Limit("calls", 10**6, 3600), Limit("cost_micro_usd", 10**9, 86_400))},
        tenant_limits={"t": (Limit("calls", 10**6, 3600),)},
    )
    async with living(tmp_path / "w.db", limits) as world:
        for number in range(200):
            of = tool(f"{number}-{long}"[:64], integrity="untrusted", confidentiality=number % 4)
            await world.call(of, shown=Shown(OK.result_json, True, (f"label-{number}",)))
        facts = await world.facts()
        assert len(msgspec.json.encode([facts.slow, facts.fast, facts.provenance])) <= 4096
