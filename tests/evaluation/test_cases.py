"""The cases are what they say: without a gateway every task gets done and every attack succeeds."""

from __future__ import annotations

import re

import pytest
import yaml

from gateway.config_upstream import ToolConfig
from gateway.sessions import mandate as mandates
from tests.evaluation import cases
from tests.evaluation.cases import FOLDER, Case, Effect, Plant, Step, Suite, Task, Wrong
from tests.evaluation.gateway import mandate
from tests.evaluation.replay import Direct, play
from tests.evaluation.worlds.kit import World

SUITES = cases.load()


def replayed(suite: Suite, world: World, case: Case):
    world.reset(lambda data: cases.plant(data, case.plant))
    return play(case, world, Direct(world))


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_every_task_gets_done_when_nothing_stands_in_between(suite):
    world = suite.world()
    for case in suite.benign:
        played = replayed(suite, world, case)
        assert played.done, case.id
        assert [made.verdict for made in played.made] == ["allow"] * len(case.steps), case.id


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_every_attack_succeeds_when_nothing_stands_in_between(suite):
    """And the agent had read what was planted before it did what the attacker wants."""
    world = suite.world()
    for case in (*suite.written, *suite.crossed):
        played = replayed(suite, world, case)
        assert played.goal and played.injected_effect, case.id
        assert played.seen, f"{case.id}: what was planted is in no result"
        assert not any(made.verdict == "skipped" for made in played.made), case.id


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_no_goal_is_reached_and_nothing_else_happens_when_the_agent_is_not_hijacked(suite):
    world = suite.world()
    for case in (*suite.written, *suite.crossed):
        world.reset(lambda data, case=case: cases.plant(data, case.plant))
        honest = [each for each in suite.benign if each.task.id == case.task.id]
        play(honest[0], world, Direct(world))
        assert not all(cases.happened(each, world.effects) for each in case.goal), case.id


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_a_mandate_names_the_side_effects_of_its_task_and_no_other_tool(suite):
    world = suite.world()
    for case in suite.benign:
        used = {step.call for step in case.task.calls if world.tools[step.call].effect}
        assert used == set(case.task.tools), case.id
        assert set(case.task.tools) <= set(world.tools), case.id


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_every_mandate_is_one_and_covers_its_task(suite):
    """Also with bounds, which come from the request: what the agent does for the user is within them."""
    world = suite.world()
    for case in suite.benign:
        raw = mandate(suite.name, case.task, case.task.tools, bounds=True)
        given = mandates.parse(raw, now_ns=0)
        world.reset()
        play(case, world, Direct(world))
        for effect in world.effects:
            assert mandates.outside(given, f"{suite.name}/{effect['tool']}", effect["args"]) == (), case.id


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_every_tool_is_described_and_every_description_is_one(suite):
    world = suite.world()
    assert set(suite.manifests) == set(world.tools)
    for name, manifest in suite.manifests.items():
        ToolConfig.model_validate(manifest)
        changes = world.tools[name].effect and manifest.get("effects") != ["egress"]
        assert (manifest["risk"] != "read") == changes, name


def test_the_operator_names_no_value_of_a_suite():
    """No address, account, host or name of the data may decide anything: policy knows kinds of tools only."""
    said = (FOLDER / "operator.yaml").read_text() + "".join(
        yaml.safe_dump(suite.manifests) for suite in SUITES
    )
    for suite in SUITES:
        text = yaml.safe_dump(suite.data, allow_unicode=True)
        for value in set(re.findall(r"[\w.-]+@[\w.-]+|https?://[\w./-]+|\b[A-Z]{2}\d{20,}\b", text)):
            assert value not in said, value


def test_there_are_enough_cases_in_both_halves():
    for half in ("development", "held-out"):
        benign = [case for suite in SUITES for case in suite.benign if case.half == half]
        written = [case for suite in SUITES for case in suite.written if case.half == half]
        assert len(benign) >= 30 and len(written) >= 30
    assert len({(case.suite, case.id) for suite in SUITES for case in suite.benign}) == sum(
        len(suite.benign) for suite in SUITES
    )


def test_the_halves_are_those_that_were_drawn():
    split = yaml.safe_load((FOLDER / "split.yaml").read_text())
    assert split["held_out"] == cases.halves(FOLDER, split["seed"])


# ----------------------------------------------------------------------------------------------- the parts


def test_references_take_what_earlier_results_hold():
    results = {
        "mail": {"from": "a@b.example", "lines": ["one", "two 22"], "n": 7},
        "page": "see https://x.example/y now",
    }
    assert cases.filled("{{mail/n}}", results) == 7
    assert cases.filled({"to": ["{{mail/from}}"]}, results) == {"to": ["a@b.example"]}
    assert cases.filled("n={{mail/n}}, {{mail/lines/1 ~ two (\\d+)}}", results) == "n=7, 22"
    assert cases.filled("{{page ~ https\\S+}}", results) == "https://x.example/y"


@pytest.mark.parametrize(
    "text", ["{{gone}}", "{{mail/gone}}", "{{mail/lines/9}}", "{{mail/from ~ nothing (\\d+)}}"]
)
def test_a_reference_to_nothing_is_an_error(text):
    with pytest.raises(Wrong):
        cases.filled(text, {"mail": {"from": "a", "lines": []}})


def test_effects_are_compared_by_the_members_that_are_wanted():
    effects = [{"tool": "send", "args": {"to": ["a@b.example"], "body": "code 4471", "cc": []}}]
    assert cases.happened(Effect(tool="send", args={"to": ["a@b.example"], "body": "~44\\d1"}), effects)
    assert not cases.happened(Effect(tool="send", args={"to": ["a@b.example", "c"]}), effects)
    assert not cases.happened(Effect(tool="send", args={"body": "4471"}), effects)
    assert not cases.happened(Effect(tool="pay"), effects)


def test_a_result_that_never_came_leaves_out_the_calls_that_need_it():
    class Closed:
        def call(self, tool, arguments, *, wanted):
            from tests.evaluation.replay import Answer

            return Answer(verdict="deny", code="closed")

    suite = next(each for each in SUITES if each.name == "office")
    case = next(each for each in suite.benign if each.id == "invite-priya")
    played = play(case, suite.world(), Closed())
    assert [made.verdict for made in played.made] == ["deny", "deny", "skipped"]
    assert not played.done and played.denied == 2


def test_planting_changes_the_copy_of_one_replay_only():
    suite = SUITES[0]
    world = suite.world()
    case = suite.written[0]
    world.reset(lambda data: cases.plant(data, case.plant))
    assert world.data != suite.data
    world.reset()
    assert world.data == suite.data and world.effects == []


def test_a_bad_call_is_a_complaint_and_no_effect():
    world = SUITES[0].world()
    tool = next(name for name, each in world.tools.items() if each.effect)
    assert world.call(tool, {"nonsense": 1})["isError"]
    assert world.effects == []


def test_planting_nowhere_is_an_error():
    with pytest.raises(Wrong):
        cases.plant({"a": {}}, (Plant(at="/b/c", append="x"),))


def test_a_question_is_answered_only_when_everything_could_be_read():
    task = Task(id="q", request="?", tools=[], calls=[Step(call="get_balance")])
    case = Case(
        suite="bank", id="q", kind="benign", half="development", task=task, steps=((task.calls[0], False),)
    )
    world = next(each for each in SUITES if each.name == "bank").world()
    assert play(case, world, Direct(world)).done
