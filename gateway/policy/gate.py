"""What a policy may not do, found at load and named with file and line.

Each check closes a way in which a rule would load, look right and silently not fire: built-ins the engine
lacks fail only when reached, misspelt paths are undefined, the clock makes a decision impossible to replay.
Sources: the engine's behaviour measured against OPA's conformance suite (docs/explanation/policy.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from gateway.policy import contract, schema, syntax
from gateway.policy.data import patterns
from gateway.policy.engine import builtins, explain, new_engine
from gateway.policy.module import RULES, Module
from gateway.policy.problem import Problem
from gateway.policy.regex import compiled
from gateway.policy.sprintf import problem

FORBIDDEN: Final[Mapping[str, str]] = {
    "http.send": "rules do not use the network; ask for the fact to be added to the input",
    "net.lookup_ip_addr": "rules do not use the network; ask for the fact to be added to the input",
    "opa.runtime": "it would show the environment, secrets included",
    "rand.intn": "a decision must be the same when replayed",
    "uuid.parse": "it differs from OPA on ids without braces; use regex.match",
    "uuid.rfc4122": "a decision must be the same when replayed",
    "time.now_ns": "a decision must be the same when replayed; use input.time",
    "print": "it would write arguments to the log; use the message of a finding",
    "trace": "it would write arguments to the log; use the message of a finding",
    "numbers.range": "an argument could make it endless; iterate over the input instead",
    "numbers.range_step": "an argument could make it endless; iterate over the input instead",
    "net.cidr_expand": "an argument could make it endless; use net.cidr_contains",
    "graph.reachable_paths": "it differs from OPA on cycles; use graph.reachable",
    "strings.count": "it differs from OPA on overlapping text; use regex.find_n",
    "indexof_n": "it differs from OPA on the empty text; use indexof",
    "base64url.decode": "it differs from OPA on text without padding; use base64.decode",
    "urlquery.decode": "it differs from OPA on control characters",
    "json.match_schema": "it differs from OPA in what it says of errors; test the fields themselves",
    "semver.is_valid": "it differs from OPA on what is no text; use semver.compare",
    "yaml.is_valid": "it differs from OPA; policies read JSON",
    "units.parse": "it differs from OPA on large exponents; give numbers in one unit",
    "units.parse_bytes": "it differs from OPA on large exponents; give numbers in one unit",
    "regex.template_match": "it does not use RE2; use regex.match",
}
_SAME_DELIMITERS: Final = frozenset(".-/_")
_PATTERN_AT: Final = {
    "regex.match": 0, "regex.find_n": 0, "regex.find_all_string_submatch_n": 0, "regex.split": 0,
    "regex.replace": 1,
}  # fmt: skip
_FIXTURE: Final = (
    '{"version":1,"call":{"kind":"tool","target":"a/b","args":{"text":"x","list":["y",{"z":1}]},"text":"x","digest":"d","session":"s",'
    '"surface":"mcp","modified":false},"tool":{"kind":"tool","upstream":"a","name":"b","target":"a/b","risk":"irreversible",'
    '"effects":["write"],"domain":"general","idempotent":false,"cost_micro_usd":0,"integrity":"untrusted","confidentiality":1,'
    '"polling":false,"source":"default","extra":{}},"agent":{"id":"a","owner":"o","tenant":"t","labels":["l"]},"chain":[],'
    '"environment":"production","stale":[],"time":1,"result":{"status":"ok","value":{"content":[]},"text":""}}'
)
_SETS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "call": syntax.SETS,
    "result": ("deny", "obligation"),
    "list": ("deny",),
    "trust": ("deny",),
}


def check(modules: Sequence[Module], data: Mapping[str, Any]) -> tuple[list[Module], list[Problem]]:
    """Modules completed with what they read and need, and every problem with its place."""
    known = builtins()
    functions = _functions(modules)
    libraries = [module for module in modules if module.role == "library"]
    problems = [*_twice(modules), *_data_problems(modules, data)]
    completed = []
    for module in modules:
        needed = _needed(module, libraries)
        problems += _calls(module, known, functions)
        problems += _forms(module)
        if module.role == "rule":
            module = _complete(module, needed)
            problems += _shape(module)
            problems += _inputs(module, [module, *needed])
            problems += _types(module, [module, *needed])
        if module.role != "test":
            problems += _negations(module, functions)
            problems += _purity(module)
            problems += _datas(module, modules, data)
        completed.append(module)
    if not problems:
        problems = list(_dry_run(completed, data))
    return completed, problems


def language(modules: Sequence[Module], known: frozenset[str]) -> Iterator[Problem]:
    """What these modules use that the engine has not, or has otherwise than OPA."""
    functions = _functions(modules)
    for module in modules:
        yield from _calls(module, known, functions)
        yield from _forms(module)
        yield from _purity(module)


def _functions(modules: Iterable[Module]) -> set[str]:
    return {
        f"data.{module.package}.{rule.name}"
        for module in modules for rule in module.syntax.rules if rule.form == "function"
    }  # fmt: skip


def _complete(module: Module, needed: Sequence[Module]) -> Module:
    reads = {read.path for part in (module, *needed) for read in part.syntax.reads if read.root == "input"}
    return msgspec.structs.replace(
        module, reads=frozenset(reads), libraries=tuple(sorted(part.file for part in needed))
    )


def _needed(module: Module, libraries: Sequence[Module]) -> list[Module]:
    """Libraries a module reads or calls, transitively."""
    found: dict[str, Module] = {}
    todo = [module]
    while todo:
        part = todo.pop()
        for read in part.syntax.reads:
            if read.root != "data":
                continue
            for library in libraries:
                package = tuple(library.package.split("."))
                if library.file not in found and read.path[: len(package)] == package:
                    found[library.file] = library
                    todo.append(library)
    found.pop(module.file, None)
    return list(found.values())


def _twice(modules: Sequence[Module]) -> Iterator[Problem]:
    """A second module of one package would add to it or conflict with it, whichever comes first."""
    rules = [module for module in modules if module.role == "rule"]
    for what, count in (
        ("package", Counter(module.package for module in rules)),
        ("id", Counter(module.id for module in rules)),
    ):  # fmt: skip
        for module in rules:
            name = module.package if what == "package" else module.id
            if count[name] > 1:
                yield Problem(
                    module.file,
                    1,
                    "duplicate",
                    f"the {what} '{name}' is used twice; give each module its own",
                )


def _shape(module: Module) -> Iterator[Problem]:
    """What the combiner relies on: partial sets, of the kinds the phase knows."""
    if module.package.count(".") != RULES.count("."):
        yield Problem(
            module.file, 1, "package", f"the package must be '{RULES}<name>', not '{module.package}'"
        )
    if not any(rule.name.split(".", 1)[0] in syntax.SETS for rule in module.syntax.rules):
        sets = ", ".join(_SETS_OF[module.phase])
        yield Problem(module.file, 1, "contribution", f"contributes nothing; define one of {sets}")
    for rule in module.syntax.rules:
        name = rule.name.split(".", 1)[0]
        if name not in syntax.SETS:
            continue
        if rule.form != "set" or rule.name != name:
            said = f"'{name}' must be a set: '{name} contains {{…}} if'"
            yield Problem(module.file, rule.line, "contribution", said)
        if name not in _SETS_OF[module.phase]:
            said = f"'{name}' does nothing in phase '{module.phase}'"
            yield Problem(module.file, rule.line, "contribution", said)


def _inputs(module: Module, parts: Iterable[Module]) -> Iterator[Problem]:
    for part in parts:
        for read in part.syntax.reads:
            if read.root == "input":
                why = contract.refused(read.path, module.phase)
                if why is not None:
                    used = "" if part is module else f" (used by {module.file})"
                    yield Problem(part.file, read.line, "unknown-input", f"{why}{used}")


def _types(module: Module, parts: Iterable[Module]) -> Iterator[Problem]:
    """A comparison with what the input never holds is a rule that never fires, or always does."""
    for part in parts:
        for each in part.syntax.compared:
            wanted = schema.at(each.path)
            if wanted is not None and (said := schema.never(wanted, each.value, ordered=each.ordered)):
                written = ".".join(("input", *each.path))
                yield Problem(part.file, each.line, "input-type", f"'{written}' {said}")


def _datas(module: Module, modules: Sequence[Module], data: Mapping[str, Any]) -> Iterator[Problem]:
    """Data that is nowhere given is undefined: a limit that never applies."""
    for read in module.syntax.reads:
        if read.root != "data":
            continue
        written = ".".join(("data", *read.path))
        if not read.path:
            yield Problem(
                module.file, read.line, "unknown-data", "reads all of 'data'; name the part it needs"
            )
        elif f"{'.'.join(read.path)}.".startswith(RULES) and not written.startswith(f"data.{module.package}"):
            said = f"'{written}' is another rule; share code in a library package"
            yield Problem(module.file, read.line, "other-rule", said)
        elif not _given(read.path, modules, data):
            said = f"'{written}' is in no data file and no module"
            yield Problem(module.file, read.line, "unknown-data", said)


def _given(path: tuple[str, ...], modules: Sequence[Module], data: Any) -> bool:
    for module in modules:
        package = tuple(module.package.split("."))
        if module.role != "test" and path[: len(package)] == package:
            rest = ".".join(path[len(package) :])
            return not rest or any(
                rest == rule.name or rest.startswith(f"{rule.name}.") or rule.name.startswith(f"{rest}.")
                for other in modules if other.package == module.package for rule in other.syntax.rules
            )  # fmt: skip
    for part in path:
        if not isinstance(data, Mapping) or part not in data:
            return False
        data = data[part]
    return True


def _calls(module: Module, known: frozenset[str], functions: set[str]) -> Iterator[Problem]:
    for call in module.syntax.calls:

        def found(kind: str, said: str, line: int = call.line) -> Problem:
            return Problem(module.file, line, kind, said)

        if call.name in FORBIDDEN:
            yield found("forbidden-builtin", f"'{call.name}' is refused: {FORBIDDEN[call.name]}")
        elif call.name in functions or f"data.{module.package}.{call.name}" in functions:
            continue
        elif call.name not in known:
            said = f"'{call.name}' is no built-in of this engine and no function of the loaded modules"
            yield found("unknown-builtin", said)
        elif call.name == "walk" and len(call.args) == 1:
            said = "'[p, v] := walk(x)' yields nothing in this engine; write 'walk(x, [p, v])'"
            yield found("engine-differs", said)
        elif call.name == "glob.match":
            yield from (found("engine-differs", why) for why in _delimiters(call.args[1]))
        elif call.name == "sprintf":
            yield from (found("engine-differs", why) for why in _template(call.args[0]))
        elif call.name in _PATTERN_AT and len(call.args) > _PATTERN_AT[call.name]:
            pattern = syntax.literal(call.args[_PATTERN_AT[call.name]])
            if pattern is not None and (why := _bad_pattern(pattern)):
                yield found("regex", why)


def _forms(module: Module) -> Iterator[Problem]:
    """Forms that the engine and OPA read differently."""
    said = {
        "'not {…}' is a set here and a body in OPA; put the body into a rule": module.syntax.nots_of_braces,
        "this import changes 'not' in OPA alone; write 'import rego.v1'": module.syntax.imported_nots,
        "a set's name cannot go on after a variable; write 'name[x] contains y'": module.syntax.heads_within,
    }
    for why, lines in said.items():
        yield from (Problem(module.file, line, "engine-differs", why) for line in lines)


def _negations(module: Module, functions: set[str]) -> Iterator[Problem]:
    """OPA works out the operands of a negated call first: undefined there, true in this engine."""
    for negated in module.syntax.negated:
        doubtful = [
            f"{name}(…)"
            for name in negated.calls
            if name in functions or f"data.{module.package}.{name}" in functions
        ]
        doubtful += [
            ".".join((read.root, *read.path)) + ("" if read.whole else "[…]")
            for read in negated.reads
            if read.root == "input" and not (read.whole and contract.certain(read.path))
        ]
        if doubtful:
            said = (
                f"where '{doubtful[0]}' is undefined this 'not' is true here and undefined in OPA; "
                "give it a name before, or put what is negated into a rule"
            )
            yield Problem(module.file, negated.line, "engine-differs", said)


def _delimiters(node: Any) -> Iterator[str]:
    """Only these delimiters mean the same in the engine and in OPA; ``:`` lets ``a:*`` match ``a:b:c``."""
    if "Array" not in node:
        yield "glob.match needs its delimiters as a literal list, such as ['/']"
        return
    for item in node["Array"]["items"]:
        text = syntax.literal(item)
        if text not in _SAME_DELIMITERS:
            usable = " ".join(sorted(_SAME_DELIMITERS))
            yield f"glob.match with the delimiter {text!r} is not reliable; use one of {usable}"


def _template(node: Any) -> Iterator[str]:
    """A template from the input could be anything; ours has the verbs that are the same in both engines."""
    text = syntax.literal(node)
    if text is None:
        yield "sprintf needs its template as a literal string"
    elif why := problem(text):
        yield why


def _bad_pattern(pattern: str) -> str | None:
    try:
        compiled(pattern)
    except ValueError as error:
        return str(error)
    return None


def _purity(module: Module) -> Iterator[Problem]:
    for line in module.syntax.withs:
        yield Problem(
            module.file, line, "with", "'with' replaces what was really asked; only tests may use it"
        )


def _data_problems(modules: Sequence[Module], data: Mapping[str, Any]) -> Iterator[Problem]:
    for at, pattern in patterns(data):
        why = _bad_pattern(pattern)
        if why is not None:
            yield Problem(at, 0, "regex", why)
    for module in modules:
        if (
            module.role == "library"
            and module.package.startswith("wardgate.")
            and not module.package.startswith("wardgate.lib.")
        ):
            said = f"the package '{module.package}' is taken; use wardgate.rules.<name>"
            yield Problem(module.file, 1, "package", said)
        node: Any = data
        for part in module.package.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        if node is not None:
            said = f"the data files also define 'data.{module.package}'; rename one"
            yield Problem(module.file, 1, "data", said)


def _dry_run(modules: Sequence[Module], data: Mapping[str, Any]) -> Iterator[Problem]:
    """Evaluate each module on two inputs: unsafe variables and recursion show only then."""
    base = new_engine(dict(data))
    by_file = {module.file: module for module in modules}
    for module in modules:
        if module.role != "rule":
            continue
        engine = base.clone()
        try:
            for file in (*module.libraries, module.file):
                engine.add_policy(file, by_file[file].text)
            engine.set_input_json("{}")
            for name in module.sets:
                engine.eval_rule_as_json(f"data.{module.package}.{name}")
            engine.set_input_json(_FIXTURE)
            for name in module.sets:
                _must_not_recurse(engine, f"data.{module.package}.{name}")
        except RuntimeError as error:
            file, line, said = explain(error)
            yield Problem(file or module.file, line or 1, "evaluation", said)


def _must_not_recurse(engine: Any, rule: str) -> None:
    """Of a typical input only recursion is a fault of the module; its values may well have the wrong type."""
    try:
        engine.eval_rule_as_json(rule)
    except RuntimeError as error:
        if "recursion" in str(error):
            raise
