"""Why a decision came out as it did: which rules fired, and which condition stopped each of the others.

Nothing is guessed from the text. Each rule of a module in scope is evaluated alone, on the same input; of a
rule that contributes nothing the conditions are evaluated as ever longer prefixes, until one has no solution.
That condition, with the values it reads, is what stopped it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
import orjson
from regorus import Engine

from gateway import output_schema
from gateway.model import Call, Facts, Json, Mode, Outcome
from gateway.policy import syntax
from gateway.policy.contract import CONTRACT
from gateway.policy.engine import UNDEFINED, explain, new_engine
from gateway.policy.input import Sections
from gateway.policy.metadata import Phase, Scope
from gateway.policy.module import Module
from gateway.policy.policy import EmbeddedPolicy
from gateway.policy.scope import argument_names, matches, touches

_ALONE: Final = "wardgate_alone"
_SO_FAR: Final = "wardgate_so_far"
_BOUND: Final = "wardgate_bound"
_DEPTH: Final = 3
_SOLUTIONS: Final = 3
_EVERYWHERE: Final = Scope()
_HIDDEN: Final = "[redacted]"


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """What a condition read. ``undefined`` is not null: there is no value."""

    name: str
    value: Json = None
    undefined: bool = False


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """The condition of a rule that has no solution. ``held`` of ``conditions`` before it did."""

    line: int
    condition: str
    held: int
    conditions: int
    values: tuple[Value, ...] = ()
    bound: tuple[Json, ...] = ()  # variables as the conditions before bound them, the first few solutions
    error: str = ""  # when evaluating it failed
    because: tuple[Inner, ...] = ()  # helpers it needs that have no value, and what stopped those


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    line: int
    stop: Stop


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One definition in a module: ``deny contains … if …``."""

    rule: str  # id of the module
    title: str
    mode: Mode
    file: str
    line: int
    contributes: str  # allow, deny, escalate, obligation
    members: tuple[Json, ...] = ()  # what it contributed; empty when it did not fire
    stop: Stop | None = None


class Outside(msgspec.Struct, frozen=True, kw_only=True):
    rule: str
    why: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    phase: Phase
    fired: tuple[Rule, ...]
    stopped: tuple[Rule, ...]  # nearest first
    outside: tuple[Outside, ...]  # modules whose scope the call is not in


def explain_call(
    policy: EmbeddedPolicy,
    phase: Literal["call", "result"],
    call: Call,
    facts: Facts,
    outcome: Outcome | None = None,
    *,
    shown_args: Json = None,
    show_result: bool = True,
) -> Explanation:
    """``shown_args`` are the arguments as they may be shown.

    Where something is not to be shown, neither are variables and helpers, whose values come from it.
    """
    group = policy.group(phase, call)
    whole = Sections(path for path, field in CONTRACT.items() if phase in field.phases)
    payload = whole.encode(call, facts, outcome)
    doc = orjson.loads(payload)
    hidden = shown_args is not None and shown_args != call.args
    if hidden:
        doc["call"]["args"] = shown_args
    if outcome is not None and not show_result:
        hidden = True
        doc["result"] |= {"value": _HIDDEN, "text": _HIDDEN}
    base = new_engine(dict(policy.bundle.data))
    fired: list[Rule] = []
    stopped: list[Rule] = []
    for module in group.modules:
        # What the module is not meant to read must not be there either: it is as the gateway feeds it.
        own = Sections(module.reads).encode(call, facts, outcome)
        probe = _Probe(policy, base, module, own, doc, bound=not hidden)
        for rule in probe.rules():
            (fired if rule.members else stopped).append(rule)
    stopped.sort(key=_nearness)
    return Explanation(
        phase=phase, fired=tuple(fired), stopped=tuple(stopped), outside=tuple(_outside(policy, phase, call))
    )


def _nearness(rule: Rule) -> tuple[float, str, int]:
    stop = rule.stop
    assert stop is not None, "it did not fire"
    return (-stop.held / max(stop.conditions, 1), rule.rule, rule.line)


def _outside(policy: EmbeddedPolicy, phase: Phase, call: Call) -> Iterator[Outside]:
    inside = set(policy.group(phase, call).rules)
    names = argument_names(call.args) or frozenset()
    for module in policy.bundle.phase(phase):
        if module.id not in inside:
            yield Outside(rule=module.id, why=_why_outside(module, call, names))


def _why_outside(module: Module, call: Call, names: frozenset[str]) -> str:
    for part in ("tools", "kinds", "effects", "risks"):
        given = getattr(module.scope, part)
        if given and not matches(msgspec.structs.replace(_EVERYWHERE, **{part: given}), call.tool):
            return f"{part}: {', '.join(given)}"
    if call.tool.manifest.confidentiality < module.scope.confidentiality:
        return f"confidentiality below {module.scope.confidentiality}"
    if module.scope.output_schema and not output_schema.named(call.tool):
        return "declares no output schema"
    if not touches(module.scope, names):
        return f"no argument named {', '.join(module.scope.arguments)}"
    return "scope"


class _Probe:
    """One module, its syntax tree and engines that hold it with questions of ours."""

    def __init__(
        self, policy: EmbeddedPolicy, base: Engine, module: Module, payload: bytes, doc: Json, bound: bool
    ) -> None:
        self._module = module
        self._payload = payload.decode()
        self._doc = doc
        self._data = policy.bundle.data
        self._bound_shown = bound
        self._source = module.text.encode()
        self._engine = base.clone()
        for file in module.libraries:
            self._engine.add_policy(file, policy.bundle.libraries[file].text)
        alone = new_engine()
        alone.add_policy(module.file, module.text)
        self._tree = orjson.loads(alone.get_ast_as_json())[0]
        self._own = {rule.name for rule in module.syntax.rules}

    def rules(self) -> Iterator[Rule]:
        module = self._module
        assert module.meta is not None, "rules have METADATA"
        specs = [rule["Spec"] for rule in self._tree["ast"]["rules"] if "Spec" in rule]
        for spec in specs:
            head = spec["head"].get("Set")
            name = _name(head) if head is not None else ""
            if name not in syntax.SETS:
                continue
            members, error = self._members(spec, head)
            yield Rule(
                rule=module.id, title=module.meta.title, mode=module.mode, file=module.file,
                line=spec["span"]["line"], contributes=name, members=members,
                stop=None if members else self._stop(spec, error),
            )  # fmt: skip

    def _members(self, spec: Any, head: Any) -> tuple[tuple[Json, ...], str]:
        """What this definition alone contributes: its text under another name."""
        start, end = head["refr"]["Var"]["span"]["start"], head["refr"]["Var"]["span"]["end"]
        text = self._source[end : _end(spec, self._tree, len(self._source))].decode()
        assert start < end, "a name has a length"
        value, error = self._ask(f"{_ALONE}{text}", _ALONE)
        return tuple(value) if isinstance(value, list) else (), error

    def _stop(self, spec: Any, error: str, depth: int = 0) -> Stop:
        """Which condition of a definition has no solution."""
        statements = _statements(spec)
        texts = [self._text(statements, number, spec) for number in range(len(statements))]
        for number, statement in enumerate(statements):
            so_far = "\n".join(texts[: number + 1])
            value, failed = self._ask(f"{_SO_FAR} if {{\n{so_far}\n}}", _SO_FAR)
            if failed and _unsafe(failed):
                continue  # a variable that a later condition binds: asked together with that one
            if failed or value is not True:
                return Stop(
                    line=statement["span"]["line"], condition=" ".join(texts[number].split()), held=number,
                    conditions=len(statements), error=failed, values=tuple(self._values(statement)),
                    bound=self._bound(statements, texts, number),
                    because=tuple(self._because(statement, depth)),
                )  # fmt: skip
        return Stop(
            line=spec["span"]["line"], condition="(what it contributes has no value)",
            held=len(statements), conditions=len(statements), error=error,
            values=tuple(self._values(_contributed(spec))),
        )  # fmt: skip

    def _text(self, statements: Sequence[Any], number: int, spec: Any) -> str:
        """The source of one condition: from where it starts to where the next one does."""
        body = spec["bodies"][0]
        start = self._start(statements[number])
        if number + 1 < len(statements):
            end = self._start(statements[number + 1])
        elif len(spec["bodies"]) > 1:
            end = spec["bodies"][1]["span"]["start"]
        else:
            end = _end(spec, self._tree, len(self._source))
        text = _uncommented(self._source[start:end].decode()).rstrip()
        opened = self._source[body["query"]["span"]["start"] : start].lstrip().startswith(b"{")
        if number + 1 == len(statements) and opened:
            text = text.removesuffix("}").rstrip()
        return text.removesuffix(";")

    def _start(self, statement: Any) -> int:
        """Where a condition starts; the tree's place of a literal string is behind its quote."""
        start: int = statement["span"]["start"]
        return start - 1 if self._source[start - 1 : start] in (b'"', b"`") else start

    def _values(self, node: Any) -> Iterator[Value]:
        """What a condition reads: of the input, of the data, and of helpers in the same module."""
        found = syntax.read_node(node, self._tree)
        for read in dict.fromkeys((read.root, read.path) for read in found):
            root, path = read
            if root == "data" and ".".join(path).startswith("wardgate."):
                continue  # a library
            yield _at(self._doc if root == "input" else self._data, root, path)
        for name in self._helpers(node):
            value, error = self._ask("", name)
            if not self._bound_shown and not isinstance(value, bool | None):
                value = _HIDDEN
            yield Value(name=name, value=None if error else value, undefined=value is None or bool(error))

    def _helpers(self, node: Any) -> list[str]:
        defined = {
            rule.name for rule in self._module.syntax.rules if rule.form in ("value", "default", "set")
        }
        return sorted(_variables(node) & defined)

    def _because(self, node: Any, depth: int) -> Iterator[Inner]:
        """Helpers without a value that a condition needs, and what stopped each of their definitions."""
        if depth >= _DEPTH or "NotExpr" in node["literal"]:
            return
        for name in self._helpers(node):
            value, _ = self._ask("", name)
            if value is not None and value != []:
                continue
            for rule in self._tree["ast"]["rules"]:
                spec = rule.get("Spec")
                if spec is not None and spec["bodies"] and _name(_head(spec)) == name:
                    yield Inner(name=name, line=spec["span"]["line"], stop=self._stop(spec, "", depth + 1))

    def _bound(self, statements: Sequence[Any], texts: Sequence[str], number: int) -> tuple[Json, ...]:
        """Variables of a condition as those before it bound them."""
        if not self._bound_shown or not number:
            return ()
        before: set[str] = set()
        for statement in statements[:number]:
            before |= _declared(statement)
        names = sorted(_variables(statements[number]) & before - self._own)
        if not names:
            return ()
        wanted = ", ".join(f'"{name}": {name}' for name in names)
        body = "\n".join(texts[:number])
        value, error = self._ask(f"{_BOUND} contains {{{wanted}}} if {{\n{body}\n}}", _BOUND)
        return tuple(value[:_SOLUTIONS]) if not error and isinstance(value, list) else ()

    def _ask(self, text: str, name: str) -> tuple[Json, str]:
        """The value of a rule of the module with a question added to it; ``None`` when it is undefined."""
        engine = self._engine.clone()
        try:
            engine.add_policy(self._module.file, f"{self._module.text}\n{text}\n")
            engine.set_input_json(self._payload)
            reply = engine.eval_rule_as_json(f"data.{self._module.package}.{name}")
        except RuntimeError as error:
            return None, explain(error)[2]
        return (None, "") if reply == UNDEFINED else (orjson.loads(reply), "")


def _name(head: Any) -> str:
    return str(head["refr"]["Var"]["value"]) if "Var" in head["refr"] else ""


def _head(spec: Any) -> Any:
    return next(value for kind, value in spec["head"].items() if kind != "span")


def _contributed(spec: Any) -> Any:
    """The part of a head that says what the rule contributes."""
    head = _head(spec)
    return head.get("key") or head.get("assign") or {}


def _statements(spec: Any) -> list[Any]:
    return list(spec["bodies"][0]["query"]["stmts"]) if spec["bodies"] else []


def _end(spec: Any, tree: Any, size: int) -> int:
    """Where the text of a rule ends: before the next rule, which its span does not always reach."""
    starts = [_span(rule)["start"] for rule in tree["ast"]["rules"]]
    return min((start for start in starts if start > spec["span"]["start"]), default=size)


def _span(rule: Any) -> Any:
    return next(iter(rule.values()))["span"]


def _uncommented(text: str) -> str:
    """Without lines that are comments: the last condition would show those of the next rule."""
    return "\n".join(line for line in text.splitlines() if not line.strip().startswith("#"))


def _unsafe(error: str) -> bool:
    return "unsafe" in error or "undefined variable" in error or "use of undefined" in error


def _variables(node: Any) -> set[str]:
    found: set[str] = set()
    stack = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack += item
        elif isinstance(item, dict):
            if "Var" in item:
                found.add(str(item["Var"]["value"]))
            stack += item.values()
    return found


def _declared(statement: Any) -> set[str]:
    """Variables a condition binds: those of ``some`` and the left of ``:=``."""
    body = statement["literal"]
    for kind in ("SomeIn", "SomeVars"):
        if kind in body:
            declared = {key: value for key, value in body[kind].items() if key != "collection"}
            return _variables(declared) | {
                str(item["value"])
                for item in body[kind].get("vars", ())
                if isinstance(item, dict) and "value" in item
            }
    expr = body.get("Expr", {}).get("expr", {})
    return _variables(expr["AssignExpr"]["lhs"]) if "AssignExpr" in expr else set()


def _at(value: Any, root: str, path: Sequence[str]) -> Value:
    name = ".".join((root, *path))
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return Value(name=name, undefined=True)
        value = value[part]
    return Value(name=name, value=value)
