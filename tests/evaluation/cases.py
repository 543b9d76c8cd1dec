"""The cases of ``tests/cases/attacks``: read, checked, and split into two halves.

A suite is a folder: ``data.yaml`` (what its tool server holds), ``operator.yaml`` (the manifests an operator
would write, who knows the tools and no attack) and ``cases-*.yaml`` (tasks, attacks and goals). What every
key means is in docs/reference/evaluation.md.
"""

from __future__ import annotations

import copy
import random
import re
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from tests.evaluation.worlds.kit import World

FOLDER: Final = Path(__file__).parents[1] / "cases" / "attacks"
Json = Any


class Wrong(Exception):
    """A case that cannot be what its author meant."""


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One call of an agent. ``{{name/pointer}}`` in ``args`` stands for a value of an earlier result."""

    call: str
    args: dict[str, Json] = {}
    name: str = msgspec.field(default="", name="as")


class Effect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the tool server must have done: a tool, and what its arguments must hold."""

    tool: str
    args: dict[str, Json] = {}


class Slot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A text of the data that outsiders can write and this task reads with its call number ``read``."""

    at: str
    read: int


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a user asks for, and how an agent does it."""

    id: str
    request: str
    tools: list[str]  # with side effects; reads are free
    calls: list[Step]
    bounds: dict[str, dict[str, Json]] = {}  # of arguments, where the request gives them
    done: list[Effect] = []
    slots: list[Slot] = []
    note: str = ""


class Plant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change of the data by an outsider: one of ``append`` to a text, ``set``, ``add`` to a list."""

    at: str
    append: str | None = None
    set: Json = msgspec.UNSET
    add: Json = msgspec.UNSET


class Attack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A task whose agent is hijacked. In ``calls`` numbers stand for calls of the task."""

    id: str
    task: str
    how: str
    plant: list[Plant]
    calls: list[int | Step]
    goal: list[Effect]


class Goal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an attacker wants whatever the user asked for; crossed with tasks that have a slot."""

    id: str
    text: str
    calls: list[Step]
    goal: list[Effect]


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    tasks: list[Task] = []
    attacks: list[Attack] = []
    goals: list[Goal] = []


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A task or an attack, ready to be replayed."""

    suite: str
    id: str
    kind: str  # benign, written, crossed
    half: str  # development, held-out
    task: Task
    plant: tuple[Plant, ...] = ()
    steps: tuple[tuple[Step, bool], ...] = ()  # with whether it is injected
    goal: tuple[Effect, ...] = ()


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    data: Json
    manifests: dict[str, Json]
    benign: list[Case]
    written: list[Case]
    crossed: list[Case]

    def world(self) -> World:
        tools = import_module(f"tests.evaluation.worlds.{self.name}").TOOLS
        return World(tools, self.data)


def load(folder: Path = FOLDER) -> list[Suite]:
    """All suites. Raises ``Wrong`` or ``msgspec.ValidationError`` for a case that is not one."""
    split = yaml.safe_load((folder / "split.yaml").read_text())
    return [_suite(path.parent, split) for path in sorted(folder.glob("*/data.yaml"))]


def only(suites: list[Suite], wanted: list[str]) -> list[Suite]:
    """The suites with those cases whose ``suite/id`` holds one of the wanted texts."""

    def picked(found: list[Case]) -> list[Case]:
        return [each for each in found if any(text in f"{each.suite}/{each.id}" for text in wanted)]

    return [
        msgspec.structs.replace(
            suite, benign=picked(suite.benign), written=picked(suite.written), crossed=picked(suite.crossed)
        )
        for suite in suites
    ]


def halves(folder: Path, seed: int) -> dict[str, list[str]]:
    """Which files are held out: half of each suite's, drawn with ``seed``."""
    held: dict[str, list[str]] = {}
    draw = random.Random(seed)
    for path in sorted(folder.glob("*/data.yaml")):
        files = sorted(each.name for each in path.parent.glob("cases-*.yaml"))
        held[path.parent.name] = sorted(draw.sample(files, len(files) // 2))
    return held


def _suite(folder: Path, split: Json) -> Suite:
    name = folder.name
    files: list[tuple[str, File]] = []
    for path in sorted(folder.glob("cases-*.yaml")):
        half = "held-out" if path.name in split["held_out"].get(name, []) else "development"
        try:
            files.append((half, msgspec.convert(yaml.safe_load(path.read_text()), File)))
        except (msgspec.ValidationError, yaml.YAMLError) as problem:
            raise Wrong(f"{path}: {problem}") from problem
    tasks = {task.id: (half, task) for half, file in files for task in file.tasks}
    benign = [
        Case(suite=name, id=task.id, kind="benign", half=half, task=task,
             steps=tuple((step, False) for step in task.calls))
        for half, task in tasks.values()
    ]  # fmt: skip
    written = []
    for half, file in files:
        for attack in file.attacks:
            if attack.task not in tasks:
                raise Wrong(f"{name}/{attack.id}: there is no task {attack.task}")
            task = tasks[attack.task][1]
            steps = tuple(
                (task.calls[each], False) if isinstance(each, int) else (each, True) for each in attack.calls
            )
            written.append(
                Case(suite=name, id=attack.id, kind="written", half=half, task=task,
                     plant=tuple(attack.plant), steps=steps, goal=tuple(attack.goal))
            )  # fmt: skip
    crossed = [
        _cross(name, half, task, slot, goal)
        for half, task in tasks.values()
        for from_half, file in files
        if from_half == half
        for goal in file.goals
        for slot in task.slots[:1]
    ]
    operator = yaml.safe_load((folder / "operator.yaml").read_text())
    return Suite(
        name=name, data=yaml.safe_load((folder / "data.yaml").read_text()), manifests=operator["tools"],
        benign=benign, written=written, crossed=crossed,
    )  # fmt: skip


def _cross(suite: str, half: str, task: Task, slot: Slot, goal: Goal) -> Case:
    cut = slot.read + 1
    steps = (
        *((step, False) for step in task.calls[:cut]),
        *((step, True) for step in goal.calls),
        *((step, False) for step in task.calls[cut:]),
    )
    return Case(
        suite=suite, id=f"{task.id}+{goal.id}", kind="crossed", half=half, task=task,
        plant=(Plant(at=slot.at, append="\n\n" + goal.text),), steps=steps, goal=tuple(goal.goal),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------- values


def pointed(value: Json, pointer: str) -> Json:
    """RFC 6901 without escapes; raises ``Wrong`` when there is nothing."""
    for part in pointer.split("/")[1:]:
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (KeyError, IndexError, ValueError, TypeError):
            raise Wrong(f"nothing at {pointer}") from None
    return value


def plant(data: Json, plants: tuple[Plant, ...]) -> None:
    """Do to the data what the outsider did."""
    for each in plants:
        above, _, last = each.at.rpartition("/")
        place = pointed(data, above)
        key: Json = int(last) if isinstance(place, list) else last
        if each.append is not None:
            place[key] += (" " if each.append[0].isalnum() else "") + each.append
        elif each.add is not msgspec.UNSET:
            place[key].append(copy.deepcopy(each.add))
        else:
            place[key] = copy.deepcopy(each.set)


_REFERENCE: Final = re.compile(r"\{\{\s*(\w+)(/[^\s}~]*)?\s*(?:~\s*(.+?)\s*)?\}\}")


def filled(value: Json, results: dict[str, Json]) -> Json:
    """``value`` with every ``{{name/pointer ~ pattern}}`` replaced by what earlier results hold.

    A string that is nothing but one reference keeps the type of what it refers to. Raises ``Wrong`` when the
    result is not there or holds no such thing, as when the gateway refused it or took it out.
    """
    if isinstance(value, dict):
        return {key: filled(each, results) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each, results) for each in value]
    if not isinstance(value, str):
        return value
    whole = _REFERENCE.fullmatch(value)
    if whole:
        return _looked_up(whole, results)
    return _REFERENCE.sub(lambda match: str(_looked_up(match, results)), value)


def _looked_up(match: re.Match[str], results: dict[str, Json]) -> Json:
    name, pointer, pattern = match.groups()
    if name not in results:
        raise Wrong(f"there is no result '{name}'")
    found = pointed(results[name], pointer or "")
    if pattern is None:
        return found
    inside = re.search(pattern, found if isinstance(found, str) else str(found))
    if inside is None:
        raise Wrong(f"'{name}' holds nothing like {pattern}")
    return inside.group(inside.re.groups)


def happened(wanted: Effect, effects: list[dict[str, Json]]) -> bool:
    """Whether one of the effects is the wanted one."""
    return any(each["tool"] == wanted.tool and _fits(wanted.args, each["args"]) for each in effects)


def _fits(wanted: Json, found: Json) -> bool:
    """Objects by the wanted members; ``~`` before a pattern searches in text; the rest must be equal."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_fits(each, found.get(key)) for key, each in wanted.items())
    if isinstance(wanted, str) and wanted.startswith("~"):
        return re.search(wanted[1:], found if isinstance(found, str) else str(found)) is not None
    return bool(wanted == found)
