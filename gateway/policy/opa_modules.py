"""What a real OPA is given: the modules and data of one bundle, in a namespace of its own, and one entry.

OPA's API replaces one module at a time, so a bundle that is replaced in place would be half old and half new
for a while. Here each revision has its own root, ``data.w<revision>``: the next one is put beside the one
in force, and what is in force never changes. For that the package of each module and each reference to
``data`` get the root in front; lines stay what they are, so messages of OPA name the right ones.

The entry answers for the modules that ``input.ask`` names, whichever those are: a module a scope group would
make OPA compile everything again for each group, and an agent chooses argument names, and so groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
import orjson

from gateway.policy.engine import new_engine
from gateway.policy.module import Bundle, Module

ASK: Final = "ask"
"""The key of the input that names the modules asked. No rule can read it: the contract has no such path."""

_MARK: Final = "wardgate_revision"
_LENGTH: Final = 16


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
        for number, module in enumerate((*bundle.libraries.values(), *bundle.rules))
    }
    texts = {name: moved(module, root) for name, module in ids.items()}
    texts[f"{root}/entry"] = _entry(bundle, root, names)
    return Pushed(
        root=root,
        revision=bundle.revision,
        modules=tuple(texts.items()),
        data={**bundle.data, _MARK: bundle.revision},
        files={name: module.file for name, module in ids.items()},
        names=names,
    )


def moved(module: Module, root: str) -> str:
    """The module below another root. What is a reference to ``data`` says the syntax tree, not the text."""
    engine = new_engine()
    engine.add_policy(module.file, module.text)
    tree = orjson.loads(engine.get_ast_as_json())[0]["ast"]
    package = _first(tree["package"]["refr"])
    places = dict.fromkeys(_data_ends([tree["imports"], tree["rules"]]), f".{root}")
    text = module.text.encode()
    pieces = []
    at = 0
    for place, insert in sorted({**places, package: f"{root}."}.items()):
        pieces += [text[at:place], insert.encode()]
        at = place
    return b"".join((*pieces, text[at:])).decode()


def _first(node: Any) -> int:
    """Where the first name of a reference starts, in bytes."""
    start: int = next(iter(node.values()))["span"]["start"]
    return start


def _data_ends(node: Any) -> Iterator[int]:
    """Where each ``data`` that is the root document ends, in bytes."""
    if isinstance(node, list):
        for item in node:
            yield from _data_ends(item)
    elif isinstance(node, dict):
        for kind, value in node.items():
            if kind == "Var" and value["value"] == "data":
                yield value["span"]["end"]
            elif kind != "span":
                yield from _data_ends(value)


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
