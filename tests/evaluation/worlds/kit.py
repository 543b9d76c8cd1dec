"""What the tools of a suite are made of.

A tool is a plain function over the data of its suite (``World.data``, nested objects and lists). It knows
nothing of gateways, mandates or attacks. What changes something, or sends something out, is declared with
``effect=True``: each time it ran without a complaint, the world notes tool and arguments. That note is what
the evaluation calls a side effect; what the gateway answered does not matter for it.
"""

from __future__ import annotations

import copy
import inspect
import json
import typing
from collections.abc import Callable
from typing import Any, NotRequired

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

Json = Any
Run = Callable[..., Json]


class Complaint(Exception):
    """A tool refuses: no such object, not enough money. The agent gets to read it."""


class Tool:
    """One tool: name, JSON Schema of its arguments, and the function."""

    def __init__(self, run: Run, effect: bool, text: bool) -> None:
        self.name = run.__name__
        self.effect = effect
        self._run = run
        self._text = text
        hints = typing.get_type_hints(run)
        parameters = list(inspect.signature(run).parameters.values())[1:]
        fields = {
            each.name: hints[each.name] if each.default is each.empty else NotRequired[hints[each.name]]
            for each in parameters
        }
        typed_dict: Any = TypedDict
        given = typed_dict(self.name, fields)
        given.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)
        self._arguments: TypeAdapter[Any] = TypeAdapter(given)
        schema = self._arguments.json_schema()
        schema.pop("title", None)
        self.definition = {
            "name": self.name,
            "description": inspect.getdoc(run) or self.name,
            "inputSchema": schema,
        }

    def call(self, world: World, arguments: dict[str, Json]) -> dict[str, Json]:
        """The result as MCP has it; complaints and bad arguments are results with ``isError``."""
        try:
            value = self._run(world, **self._arguments.validate_python(arguments))
        except (Complaint, ValidationError) as problem:
            return {"content": [{"type": "text", "text": str(problem)}], "isError": True}
        if self.effect:
            world.effects.append({"tool": self.name, "args": copy.deepcopy(arguments)})
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        result: dict[str, Json] = {"content": [{"type": "text", "text": text}]}
        if isinstance(value, dict) and not self._text:
            result["structuredContent"] = copy.deepcopy(value)
        return result


class World:
    """The tools of one suite over one copy of its data."""

    def __init__(self, tools: list[Tool], data: Json) -> None:
        self._original = data
        self.tools = {tool.name: tool for tool in tools}
        self.data: Json = {}
        self.effects: list[dict[str, Json]] = []
        self.reset()

    def reset(self, change: Callable[[Json], None] | None = None) -> None:
        """Start again from the original data, changed in place by ``change``."""
        self.data = copy.deepcopy(self._original)
        self.effects = []
        if change is not None:
            change(self.data)

    def call(self, tool: str, arguments: dict[str, Json]) -> dict[str, Json]:
        return self.tools[tool].call(self, arguments)

    def next_id(self, prefix: str) -> str:
        """A fresh id; the same in every replay."""
        return f"{prefix}{900 + len(self.effects)}"


def tool(*, effect: bool = False, text: bool = False) -> Callable[[Run], Tool]:
    """Make a function a tool; with ``text`` its objects are handed out as JSON text only, as many do."""
    return lambda run: Tool(run, effect, text)


def need(found: Json | None, what: str) -> Json:
    """``found``, or a complaint that there is no such thing."""
    if found is None:
        raise Complaint(f"there is no {what}")
    return found


def matching(items: list[Json], query: str, *fields: str) -> list[Json]:
    """Items in which every word of ``query`` occurs in one of the fields."""
    words = query.lower().split()
    return [
        item
        for item in items
        if all(any(word in str(item.get(field, "")).lower() for field in fields) for word in words)
    ]
