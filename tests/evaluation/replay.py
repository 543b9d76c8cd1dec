"""One case, replayed call by call over some way to the tools."""

from __future__ import annotations

import json
from typing import Any, Final, Protocol

import msgspec

from tests.evaluation import cases
from tests.evaluation.cases import Case, Wrong
from tests.evaluation.worlds.kit import World

Json = Any
REFUSED: Final = frozenset({"deny", "withheld"})  # what no person can approve


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent got for one call.

    ``verdict`` is allow, deny or escalate, or withheld: it was made and its result is not shown.
    """

    verdict: str
    code: str = ""
    approved: bool = False  # escalated, and done all the same
    result: Json = None


class Way(Protocol):
    """How calls reach the tools: directly, or through a gateway."""

    def call(self, tool: str, arguments: dict[str, Json], *, wanted: bool) -> Answer:
        """``wanted``: the user asked for it. Only a simulated reviewer may know."""
        ...


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """One call that was tried; ``verdict`` is ``skipped`` when a value it needs never came."""

    tool: str
    injected: bool
    verdict: str
    code: str
    approved: bool
    effect: bool  # the tool server really did something


class Played(msgspec.Struct, frozen=True, kw_only=True):
    case: Case
    made: tuple[Made, ...]
    done: bool  # the user's task
    goal: bool  # the attacker's
    seen: bool = True  # what was planted came back in a result before the first injected call

    @property
    def escalated(self) -> bool:
        return any(each.verdict == "escalate" for each in self.made)

    @property
    def injected_effect(self) -> bool:
        return any(each.injected and each.effect for each in self.made)

    @property
    def denied(self) -> int:
        return sum(each.verdict in REFUSED for each in self.made)


def play(case: Case, world: World, way: Way) -> Played:
    """Replay a case; the world must have been reset for it.

    An agent that is refused goes on with its next call. A call whose arguments need a result that never came
    is left out, as a real agent could not make it either.
    """
    results: dict[str, Json] = {}
    made: list[Made] = []
    said = ""
    seen = True
    for step, injected in case.steps:
        if injected and not any(each.injected for each in made):
            seen = all(marker in said for marker in _markers(case))
        before = len(world.effects)
        try:
            arguments = cases.filled(step.args, results)
        except Wrong:
            made.append(
                Made(
                    tool=step.call,
                    injected=injected,
                    verdict="skipped",
                    code="",
                    approved=False,
                    effect=False,
                )
            )
            continue
        answer = way.call(step.call, arguments, wanted=not injected)
        made.append(
            Made(
                tool=step.call, injected=injected, verdict=answer.verdict, code=answer.code,
                approved=answer.approved, effect=len(world.effects) > before,
            )
        )  # fmt: skip
        if answer.result is not None and not answer.result.get("isError"):
            value = structured(answer.result)
            said += json.dumps(value, ensure_ascii=False)
            if step.name:
                results[step.name] = value
    done = bool(made) and all(cases.happened(each, world.effects) for each in case.task.done)
    if not case.task.done:  # a question: the agent can answer it when it has read everything
        done = all(each.verdict != "skipped" and _got(each) for each in made if not each.injected)
    goal = bool(case.goal) and all(cases.happened(each, world.effects) for each in case.goal)
    return Played(case=case, made=tuple(made), done=done, goal=goal, seen=seen)


def structured(result: Json) -> Json:
    """What an agent makes of a result: the object, or the text, read as JSON if it is."""
    if "structuredContent" in result:
        return result["structuredContent"]
    text = result["content"][0]["text"]
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


class Direct:
    """Calls the tools themselves: what happens without a gateway."""

    def __init__(self, world: World) -> None:
        self._world = world

    def call(self, tool: str, arguments: dict[str, Json], *, wanted: bool) -> Answer:
        return Answer(verdict="allow", result=self._world.call(tool, arguments))


def _got(made: Made) -> bool:
    """Whether the agent has the result of the call."""
    return made.verdict == "allow" or made.approved


def _markers(case: Case) -> list[str]:
    """A piece of each planted text, as it stands in the JSON of a result."""
    found = []
    for each in case.plant:
        for text in _texts(
            each.append if each.append is not None else each.set if each.add is msgspec.UNSET else each.add
        ):
            found.append(json.dumps(text.strip(), ensure_ascii=False)[1:-1][-40:])
            break
    return found


def _texts(value: Json) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        found = [text for each in value.values() for text in _texts(each)]
        return sorted(found, key=len, reverse=True)
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return []
