"""The one place that imports ``regorus``, and what must be true of every engine made.

Import sets ``RUST_BACKTRACE=0`` first: with it set, the first error of a process takes 137 ms and every
error text carries the addresses of our memory.
"""

from __future__ import annotations

import os

os.environ["RUST_BACKTRACE"] = "0"

import re
from importlib.metadata import version
from typing import Any, Final

import orjson
from regorus import Engine

from gateway.policy import regex, text
from gateway.policy.sprintf import sprintf

EXTENSIONS: Final = (*regex.EXTENSIONS, *text.EXTENSIONS, ("sprintf", 2, sprintf))
"""What replaces built-ins of the engine, so that they answer as OPA's do."""

NAME: Final = f"regorus {version('gordon-to-regorus')}"

UNDEFINED: Final = '"<undefined>"'
"""What the engine answers for undefined: a string, which is true in Python."""

_PLACE: Final = re.compile(r"--> (?P<file>.+?):(?P<line>\d+):\d+")
_SAID: Final = re.compile(r"error: (?P<said>.+?)(?:\n|$)")


def new_engine(data: dict[str, Any] | None = None) -> Engine:
    """An engine with RE2 in place of its own expressions and with the given data."""
    engine = Engine()
    for name, arguments, function in EXTENSIONS:
        engine.add_extension(name, arguments, function)
    if data:
        engine.add_data_json(orjson.dumps(data).decode())
    return engine


def builtins() -> frozenset[str]:
    """Names the engine can really evaluate; others fail only when they are reached."""
    engine = Engine()
    engine.add_policy("builtins", "package builtins\nnames := opa.runtime().builtins")
    names = orjson.loads(engine.eval_rule_as_json("data.builtins.names"))
    return frozenset(names) | {name for name, _, _ in EXTENSIONS}


def explain(error: BaseException) -> tuple[str, int, str]:
    """File, line and message of an engine's error, without source excerpts and backtraces."""
    text = str(error).split("Stack backtrace", 1)[0]
    place = _PLACE.search(text)
    said = _SAID.search(text)
    message = said["said"] if said else " ".join(text.split())
    return (place["file"], int(place["line"]), message.strip()) if place else ("", 0, message.strip())
