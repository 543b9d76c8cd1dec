"""OPA's own conformance cases on the embedded engine: what the gate lets through must be right.

The cases come with OPA's source (``v1/test/cases/testdata/v1``); ``OPA_CASES`` names the folder. Each is
refused by the gate, answered as OPA answers, or an error where OPA has a value (which is a deny). Anything
else is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import orjson
import yaml

from gateway.policy import gate, syntax
from gateway.policy.engine import builtins, new_engine
from gateway.policy.module import Module

FOLDER: Final = os.environ.get("OPA_CASES", "")

Outcome = Literal["refused", "right", "error", "wrong"]


class Case(msgspec.Struct, frozen=True):
    group: str
    note: str
    raw: dict[str, Any]


def cases(folder: Path) -> Iterator[Case]:
    for path in sorted(folder.rglob("*.yaml")):
        document = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
        for raw in (document or {}).get("cases", ()):
            yield Case(path.parent.name, raw.get("note", ""), raw)


def judge(case: Case, known: frozenset[str] | None = None) -> tuple[Outcome, str]:
    """What became of a case, and why."""
    raw = case.raw
    engine = new_engine()
    modules = []
    try:
        asked = f"package asked\nimport rego.v1\nq if {{ {raw['query']} }}"  # the gate sees the question too
        for number, text in enumerate((*(raw.get("modules") or ()), asked)):
            file = f"{number}.rego"
            alone = new_engine()
            alone.add_policy(file, text)
            tree = orjson.loads(alone.get_ast_as_json())[0]
            modules.append(Module(file=file, name=file, text=text, role="rule", syntax=syntax.read(tree)))
    except (RuntimeError, KeyError, StopIteration, AttributeError, TypeError) as error:
        return "refused", f"cannot be read: {error}"[:200]
    problems = list(gate.language(modules, known or builtins()))
    if problems:
        return "refused", problems[0].message
    try:
        for module in modules[:-1]:
            engine.add_policy(module.file, module.text)
        if raw.get("data"):
            engine.add_data_json(orjson.dumps(raw["data"]).decode())
        if "input" in raw:
            engine.set_input_json(orjson.dumps(raw["input"]).decode())
        elif "input_term" in raw:  # Rego text, such as a set
            engine.set_input_json(_value(raw["input_term"]))
        found = orjson.loads(engine.eval_query_as_json(raw["query"])).get("result", [])
    except BaseException as error:
        if "want_error" in raw or "want_error_code" in raw:
            return "right", "an error, as wanted"
        return "error", str(error)[:200]
    if "want_error" in raw or "want_error_code" in raw:
        # Without strict errors, what fails is undefined; here it is an error. Undefined is no value either.
        return ("right", "undefined") if not found else ("wrong", f"{found} instead of an error")
    want = raw.get("want_result") or []
    got = [item.get("bindings", {}) for item in found]
    if raw.get("sort_bindings"):
        want, got = ([{k: _sorted(v) for k, v in one.items()} for one in some] for some in (want, got))
    same = _key(want) == _key(got)
    return ("right", "") if same else ("wrong", f"{got} instead of {want}")


def _value(term: str) -> str:
    value = orjson.loads(new_engine().eval_query_as_json(term))["result"][0]["expressions"][0]["value"]
    return orjson.dumps(value).decode()


def _sorted(value: Any) -> Any:
    return sorted(value, key=repr) if isinstance(value, list) else value


def _key(rows: list[Any]) -> list[str]:
    return sorted(repr(_plain(row)) for row in rows)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((str(key), _plain(item)) for key, item in value.items())
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
