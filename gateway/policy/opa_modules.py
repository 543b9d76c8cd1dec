"""What a real OPA is given: the modules and data of one bundle, in a namespace of its own, and one entry.

OPA's API replaces one module at a time, so a bundle that is replaced in place would be half old and half new
for a while. Here each revision has its own root, ``data.w<revision>``: the next one is put beside the one
in force, and what is in force never changes. For that the package of each module and each reference to
``data`` get the root in front; lines stay what they are, so messages of OPA name the right ones.

The entry answers for the modules that ``input.ask`` names, whichever those are: a module a scope group would
make OPA compile everything again for each group, and an agent chooses argument names, and so groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
import orjson

from gateway.policy.engine import new_engine
from gateway.policy.module import Bundle, Module

ASK: Final = "ask"
"""The key of the input that names the modules asked. No rule can read it: the contract has no such path."""

_MARK: Final = "wardgate_revision"
_LENGTH: Final = 16
_GIVEN: Final = "wardgate.entry.given"
_EACH: Final = "wardgate.entry.each"
_PIECE: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|`[^`]*`|\w+|[^\w]', re.DOTALL)


class Pushed(msgspec.Struct, frozen=True, kw_only=True):
    """Everything OPA must hold to answer for one bundle."""

    root: str
    revision: str
    modules: tuple[tuple[str, str], ...]  # id in OPA, and text
    data: Mapping[str, Any]
    files: Mapping[str, str]  # id in OPA → file, for messages
    names: Mapping[str, str]  # id of a rule → its name in the entry

    @property
    def answer(self) -> str:
        """Path of the entry below ``/v1/data``."""
        return f"{self.root}/wardgate/entry/answer"

    @property
    def about(self) -> str:
        return f"{self.root}/wardgate/entry/about"


def pushed(bundle: Bundle) -> Pushed:
    root = f"w{bundle.revision[:_LENGTH]}"
    names = {rule.id: f"m{number}" for number, rule in enumerate(bundle.rules)}
    ids: dict[str, Module] = {
        f"{root}/{number}": module
        for number, module in enumerate((*_in_order(bundle.libraries.values()), *bundle.rules))
    }
    # OPA takes no module that calls a function it does not have yet.
    texts = {f"{root}/base": _base(root)}
    texts |= {name: moved(module, root) for name, module in ids.items()}
    texts[f"{root}/entry"] = _entry(bundle, root, names)
    return Pushed(
        root=root,
        revision=bundle.revision,
        modules=tuple(texts.items()),
        data={**bundle.data, _MARK: bundle.revision},
        files={name: module.file for name, module in ids.items()},
        names=names,
    )


def _in_order(libraries: Iterable[Module]) -> list[Module]:
    """Each library after those it reads."""
    waiting = {tuple(library.package.split(".")): library for library in libraries}
    done: list[Module] = []

    def take(package: tuple[str, ...]) -> None:
        library = waiting.pop(package, None)
        if library is None:
            return
        for read in library.syntax.reads:
            for other in [name for name in waiting if read.root == "data" and read.path[: len(name)] == name]:
                take(other)
        done.append(library)

    while waiting:
        take(next(iter(waiting)))
    return done


def moved(module: Module, root: str) -> str:
    """The module below another root, and as strict as the embedded engine is.

    What is a reference and where it stands says the syntax tree, not the text. Two things are not left to
    OPA: it skips rules by an index over ``input``, errors in them included, and ``some x in y`` is silent
    when ``y`` is no collection. So the input is read through a rule, which has no index, and the collection
    through a function.
    """
    engine = new_engine()
    engine.add_policy(module.file, module.text)
    tree = orjson.loads(engine.get_ast_as_json())[0]["ast"]
    text = module.text.encode()
    package = _first(tree["package"]["refr"])
    changes = [(package, package, f"{root}.")]
    for start, end, name in _roots([tree["imports"], tree["rules"]]):
        changes.append((start, end, f"data.{root}" if name == "data" else f"data.{root}.{_GIVEN}"))
    for start in _collections(tree["rules"]):
        end = _end(text, start)
        changes += [(start, start, f"data.{root}.{_EACH}("), (end, end, ")")]
    pieces = []
    at = 0
    # At one place what is put in front of a name comes before what replaces the name.
    for start, end, insert in sorted(changes, key=lambda change: (change[0], change[1])):
        pieces += [text[at:start], insert.encode()]
        at = end
    return b"".join((*pieces, text[at:])).decode()


def _first(node: Any) -> int:
    """Where the first name of a reference starts, in bytes."""
    start: int = next(iter(node.values()))["span"]["start"]
    return start


def _roots(node: Any) -> Iterator[tuple[int, int, str]]:
    """Where each ``data`` and ``input`` that is a root document stands, in bytes."""
    if isinstance(node, list):
        for item in node:
            yield from _roots(item)
    elif isinstance(node, dict):
        for kind, value in node.items():
            if kind == "Var" and value["value"] in ("data", "input"):
                yield value["span"]["start"], value["span"]["end"], value["value"]
            elif kind != "span":
                yield from _roots(value)


def _collections(node: Any) -> Iterator[int]:
    """Where what ``some`` goes through starts, when only evaluating tells whether it is a collection."""
    if isinstance(node, list):
        for item in node:
            yield from _collections(item)
    elif isinstance(node, dict):
        for kind, value in node.items():
            if kind == "SomeIn" and not {"Var", "RefDot", "RefBrack", "Call"}.isdisjoint(value["collection"]):
                yield _first(value["collection"])
            if kind != "span":
                yield from _collections(value)


def _end(text: bytes, start: int) -> int:
    """Where a reference or call ends: at the first byte that is no name, dot or bracket of it."""
    end = start
    depth = 0
    while found := _PIECE.match(text, end):
        piece = found[0]
        if piece in (b"[", b"("):
            depth += 1
        elif piece in (b"]", b")"):
            depth -= 1
        elif not depth and not (piece == b"." or piece.isalnum() or b"_" in piece):
            break
        if depth < 0:
            break
        end = found.end()
    return end


def _base(root: str) -> str:
    lines = (
        f"package {root}.wardgate.entry",
        "import rego.v1",
        "given := input",
        'several(value) if type_name(value) in {"array", "object", "set"}',
        "each(value) := value if several(value)",
        "# Of another type: an error, as in the embedded engine.",
        "each(value) := to_number(type_name(value)) if not several(value)",
    )
    return "\n".join(lines)


def _entry(bundle: Bundle, root: str, names: Mapping[str, str]) -> str:
    mark = f'"revision": data.{root}.{_MARK}'
    lines = [
        f"package {root}.wardgate.entry",
        "import rego.v1",
        # Undefined without the data, so that an OPA which lost only that is found out as well.
        f'answer := {{{mark}, "said": {{name: said[name] | some name in input.{ASK}}}}}',
        f'about := {{{mark}, "version": opa.runtime().version}}',
    ]
    for rule in bundle.rules:
        sets = ", ".join(f'"{name}": data.{root}.{rule.package}.{name}' for name in rule.sets)
        lines.append(f"said.{names[rule.id]} := {{{sets}}}")
    return "\n".join(lines)
