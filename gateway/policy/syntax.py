"""Reading a module's syntax tree: what it calls, what it reads and what it defines, with lines.

The tree is the one of the engine (``Engine.get_ast_as_json``), so what is judged here is what is evaluated.
Nodes are ``{Kind: {"span": …, …}}``; the walk needs to know only references and calls and descends through
every other kind, known or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

Path = tuple[str, ...]

_NOTS: Final = (("future", "keywords"), ("future", "keywords", "not"))

SETS: Final = ("allow", "deny", "escalate", "obligation")


class Read(msgspec.Struct, frozen=True):
    """A reference below ``input`` or ``data``, up to its first part that is not a literal."""

    root: str
    path: Path
    line: int
    whole: bool = True  # nothing comes after ``path``


class Applied(msgspec.Struct, frozen=True):
    """A call of a built-in or function; ``args`` are syntax nodes."""

    name: str
    args: tuple[Any, ...]
    line: int


class Compared(msgspec.Struct, frozen=True):
    """A path of the input compared with a literal. ``ordered``: by size, so that only the type matters."""

    path: Path
    value: Any
    ordered: bool
    line: int


class Negated(msgspec.Struct, frozen=True):
    """Calls and paths in what is negated that OPA works out before the ``not``."""

    calls: tuple[str, ...]
    reads: tuple[Read, ...]
    line: int


class Defined(msgspec.Struct, frozen=True):
    """A rule or function head. ``form``: ``set``, ``function``, ``value`` or ``default``."""

    name: str
    form: str
    line: int


class Syntax(msgspec.Struct, frozen=True, kw_only=True):
    """What one file says."""

    package: str
    reads: tuple[Read, ...]
    calls: tuple[Applied, ...]
    rules: tuple[Defined, ...]
    withs: tuple[int, ...]  # lines that replace input, data or a function
    compared: tuple[Compared, ...]
    walks_assigned: tuple[int, ...]  # lines with ``[p, v] := walk(x)``
    negated: tuple[Negated, ...] = ()
    nots_of_braces: tuple[int, ...] = ()  # lines with ``not {…}``
    imported_nots: tuple[int, ...] = ()  # lines with an import that changes ``not``
    heads_within: tuple[
        int, ...
    ] = ()  # lines with a set whose name goes on after a variable: ``p[x].q contains``


def read(tree: Any) -> Syntax:
    """Read one entry of the engine's list of trees."""
    body = tree["ast"]
    aliases = dict(_aliases(body["imports"], tree["source"]["contents"].encode()))
    walk = _Walk(aliases)
    rules = []
    heads_within = []
    for rule in body["rules"]:
        defined = _head(rule)
        rules.append(defined)
        if defined.form == "set" and _goes_on(rule["Spec"]["head"]["Set"]["refr"]):
            heads_within.append(defined.line)
        walk.visit(rule)
    reads = [*walk.reads, *(_imported(item) for item in body["imports"])]
    return Syntax(
        package=".".join(_flat(body["package"]["refr"])[1]),
        reads=tuple(item for item in reads if item is not None),
        calls=tuple(walk.calls),
        rules=tuple(rules),
        withs=tuple(walk.withs),
        compared=tuple(walk.compared),
        walks_assigned=tuple(walk.walks_assigned),
        negated=tuple(walk.negated),
        nots_of_braces=tuple(walk.nots_of_braces),
        heads_within=tuple(heads_within),
        imported_nots=tuple(
            item["span"]["line"] for item in body["imports"] if _flat(item["refr"])[1] in _NOTS
        ),
    )


def read_node(node: Any, tree: Any) -> list[Read]:
    """What one node of a module's tree reads, with the module's imports in mind."""
    walk = _Walk(dict(_aliases(tree["ast"]["imports"], tree["source"]["contents"].encode())))
    walk.visit(node)
    return walk.reads


def literal(node: Any) -> str | None:
    """The text of a literal string node."""
    for kind in ("String", "RawString"):
        if kind in node:
            return str(node[kind]["value"])
    return None


class _Walk:
    def __init__(self, aliases: dict[str, Path], *, within: bool = True) -> None:
        self._aliases = aliases
        self._within = within  # comprehensions, which are never undefined
        self.reads: list[Read] = []
        self.calls: list[Applied] = []
        self.withs: list[int] = []
        self.compared: list[Compared] = []
        self.walks_assigned: list[int] = []
        self.nots_of_braces: list[int] = []
        self.negated: list[Negated] = []

    def visit(self, node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                self.visit(item)
            return
        if not isinstance(node, dict):
            return
        if "RefDot" in node or "RefBrack" in node or "Var" in node:
            self._reference(node)
            return
        for kind, value in node.items():
            if kind.endswith("Compr") and not self._within:
                continue
            if kind == "Call":
                self._call(value)
            elif kind == "with_mods" and value:
                self.withs.extend(item["span"]["line"] for item in value)
                self.visit(value)
            elif kind == "NotExpr":
                if not {"Set", "Object", "SetCompr", "ObjectCompr"}.isdisjoint(value["expr"]):
                    self.nots_of_braces.append(value["span"]["line"])
                self._negate(value["expr"], value["span"]["line"])
                self.visit(value)
            elif kind == "AssignExpr":
                for side in (value["lhs"], value["rhs"]):
                    if "Call" in side and self._name(side["Call"]["fcn"]) == "walk":
                        self.walks_assigned.append(side["Call"]["span"]["line"])
                if value["op"] == "Eq":
                    self._compare(value["lhs"], [value["rhs"]], ordered=False)
                self.visit(value)
            elif kind == "BoolExpr":
                ordered = value["op"] not in ("Eq", "Ne")
                self._compare(value["lhs"], [value["rhs"]], ordered=ordered)
                self._compare(value["rhs"], [value["lhs"]], ordered=ordered)
                self.visit(value)
            elif kind == "Membership":
                held = value["collection"]
                items: list[Any] = next(
                    (held[each]["items"] for each in ("Array", "Set") if each in held), []
                )
                self._compare(value["value"], items, ordered=False)
                self.visit(value)
            elif kind != "span":
                self.visit(value)

    def _negate(self, said: Any, line: int) -> None:
        """Operands are worked out first, except that a plain path compared by ``==`` is not."""
        kind, value = next(iter(said.items()))
        if kind == "Call":
            operands = value["params"]
        elif kind == "Membership":
            operands = [value["key"], value["value"], value["collection"]]
        elif kind == "BoolExpr":
            operands = [value["lhs"], value["rhs"]]
            if value["op"] == "Eq":
                operands = [each for each in operands if "Call" in each]
        else:
            return
        walk = _Walk(self._aliases, within=False)
        walk.visit([each for each in operands if each is not None])
        self.negated.append(Negated(tuple(call.name for call in walk.calls), tuple(walk.reads), line))

    def _compare(self, side: Any, others: list[Any], *, ordered: bool) -> None:
        base, path, indexes, line = _ref(side)
        if not isinstance(base, str) or any(literal(index) is None for index in indexes):
            return
        full = (*self._aliases.get(base, (base,)), *path)
        if full[0] != "input":
            return
        for other in others:
            for kind in ("String", "RawString", "Number", "Bool"):
                if kind in other:
                    self.compared.append(Compared(full[1:], other[kind]["value"], ordered, line))

    def _reference(self, node: Any) -> None:
        base, literal_path, indexes, line = _ref(node)
        if isinstance(base, str):
            full = (*self._aliases.get(base, (base,)), *literal_path)
            if full[0] in ("input", "data"):
                whole = all(literal(index) is not None for index in indexes)
                self.reads.append(Read(full[0], full[1:], line, whole))
        else:
            self.visit(base)
        self.visit(indexes)

    def _call(self, value: Any) -> None:
        name = self._name(value["fcn"])
        self.calls.append(Applied(name, tuple(value["params"]), value["span"]["line"]))
        if name.startswith("data."):
            self.reads.append(Read("data", tuple(name.split(".")[1:]), value["span"]["line"]))
        self.visit(value["params"])

    def _name(self, fcn: Any) -> str:
        base, path = _flat(fcn)
        if not isinstance(base, str):
            return ".".join(path)
        head = self._aliases.get(base, (base,))
        return ".".join((*head, *path[1:]))


def _ref(node: Any) -> tuple[Any, Path, list[Any], int]:
    """Base (a variable's name or a node), the literal parts up to the first other one, the other indexes."""
    parts: list[tuple[str | None, Any]] = []
    line = 0
    while True:
        if "RefDot" in node:
            inner = node["RefDot"]
            parts.append((inner["field"][1], None))
        elif "RefBrack" in node:
            inner = node["RefBrack"]
            parts.append((literal(inner["index"]), inner["index"]))
        else:
            break
        line = inner["span"]["line"]
        node = inner["refr"]
    parts.reverse()
    path: list[str] = []
    for text, _ in parts:
        if text is None:
            break
        path.append(text)
    indexes = [index for _, index in parts if index is not None]
    if "Var" in node:
        return node["Var"]["value"], tuple(path), indexes, line or node["Var"]["span"]["line"]
    return node, tuple(path), indexes, line


def _goes_on(node: Any) -> bool:
    """Whether a head has more after a part that is not a literal."""
    more = False
    while "RefDot" in node or "RefBrack" in node:
        inner = node.get("RefDot") or node["RefBrack"]
        if "index" in inner and literal(inner["index"]) is None and more:
            return True
        more = True
        node = inner["refr"]
    return False


def _flat(node: Any) -> tuple[Any, Path]:
    base, path, _, _ = _ref(node)
    return base, (base, *path) if isinstance(base, str) else path


def _aliases(imports: list[Any], source: bytes) -> Iterator[tuple[str, Path]]:
    for item in imports:
        base, path = _flat(item["refr"])
        if base in ("input", "data") and len(path) > 1:
            alias = item.get("as")
            # The tree gives only the place of an alias in the source, in bytes.
            yield (source[alias["start"] : alias["end"]].decode() if alias else path[-1]), path


def _imported(item: Any) -> Read | None:
    base, path = _flat(item["refr"])
    if base == "data" and len(path) > 1:
        return Read("data", path[1:], item["span"]["line"])
    return None


def _head(rule: Any) -> Defined:
    if "Default" in rule:
        inner = rule["Default"]
        return Defined(
            _head_name(inner["refr"]), "function" if inner["args"] else "default", inner["span"]["line"]
        )
    spec = rule["Spec"]
    kind, head = next((kind, value) for kind, value in spec["head"].items() if kind != "span")
    form = {"Set": "set", "Func": "function"}.get(kind, "value")
    return Defined(_head_name(head["refr"]), form, spec["span"]["line"])


def _head_name(node: Any) -> str:
    return ".".join(_flat(node)[1])
