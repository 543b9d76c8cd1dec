"""Reading a policy folder or archive and a shipped pack into one immutable ``Bundle``, or refusing it whole.

A folder follows OPA's layout: ``*.rego`` anywhere, ``*_test.rego`` beside them, ``data.yaml`` or
``data.json`` mounted at the folder they lie in; and it may have ``monitors/*.yaml``. A folder lies over a
pack: a module of the same package or a monitor of the same name replaces the pack's, data is merged key by
key. Loading changes nothing but what it returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson
from msgspec.structs import replace

from gateway.errors import ConfigError
from gateway.policy import data as policy_data
from gateway.policy import gate, metadata, modes, syntax
from gateway.policy import monitors as policy_monitors
from gateway.policy.archive import Archive, outside_roots, read_file
from gateway.policy.engine import NAME, explain, new_engine
from gateway.policy.library import choose, in_mode, library_path
from gateway.policy.module import RULES, Bundle, Module, Role
from gateway.policy.problem import InvalidPolicy, Problem
from gateway.sessions.monitors import Definition

_MAX_FILE: Final = 512 * 1024
_MAX_FILES: Final = 10_000


class Source(msgspec.Struct, frozen=True):
    """One file as read: ``file`` for messages, ``name`` relative to its root."""

    file: str
    name: str
    text: str


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    files: tuple[Source, ...]
    data: Mapping[str, Any]
    monitors: tuple[Source, ...] = ()


def read_bundle(
    path: Path | None, pack: str | None, archive: Archive | None = None, *, label: str = ""
) -> Bundle:
    """Read, parse and gate; ``ConfigError`` lists every problem as ``file:line: what and what to do``.

    ``path`` is a folder, or an archive as ``wardgate policy build`` makes it; an ``archive`` that was read
    before stands in its place, and ``label`` names it in messages. Nobody's signature is checked here.
    """
    if path is not None and path.is_file():
        archive, label = read_file(path), str(path)
    sources = _shipped(pack)
    if archive is not None:
        sources = _over(sources, _sources(sorted(archive.files.items()), label))
    elif path is not None:
        _must_be_folder(path)
        sources = _over(sources, _read_folder(path, str(path)))
    try:
        sources = replace(sources, data=policy_data.with_unions(sources.data))
    except policy_data.DataError as error:
        raise ConfigError(f"the policy cannot be loaded:\n  {error}") from error
    modules, problems = _parse(sources)
    placed, wrong = policy_monitors.read(sources.monitors)
    watched = policy_monitors.definitions(placed)
    problems += wrong
    if archive is not None:
        problems += _outside_roots(archive, label, modules, sources.monitors)
    if not problems:
        modules, problems = gate.check(modules, sources.data)
    if not problems:
        modules, problems = _named(modules, sources.data)
    if not problems:
        modules, problems = modes.settle(modules, sources.data)
    if problems:
        raise InvalidPolicy(problems)
    rules = tuple(sorted((m for m in modules if m.role == "rule"), key=lambda m: m.id))
    if not rules:
        raise ConfigError(
            f"{path or pack or 'policy'}: no rule module found, so every call would be refused. "
            "Run 'wardgate init', or set 'policy.pack: starter'."
        )
    return Bundle(
        revision=_revision(modules, sources.data, watched),
        rules=rules,
        libraries={m.file: m for m in modules if m.role == "library"},
        tests=tuple(m for m in modules if m.role == "test"),
        data=sources.data,
        codes=frozenset(code for rule in rules for code in rule.custom.codes),
        monitors=watched,
    )


def collect(path: Path | None, pack: str | None) -> dict[str, bytes]:
    """The files of a bundle that needs nothing else: the folder, its pack and the shipped libraries.

    Modules, tests and monitors of the folder keep their names, shipped ones lie below ``shipped/``; data is
    one document.
    """
    sources = _shipped(pack)
    if path is not None:
        _must_be_folder(path)
        sources = _over(sources, _read_folder(path, str(path)))
    own = f"{path}/"
    # What was tested when it was shipped need not be tested wherever it is used.
    wanted = [s for s in sources.files if not (s.file.startswith("shipped/") and _is_test(s.name))]
    files = {source.file.removeprefix(own): source.text.encode() for source in (*wanted, *sources.monitors)}
    files["data.json"] = orjson.dumps(sources.data, option=orjson.OPT_SORT_KEYS)
    return files


def _must_be_folder(path: Path) -> None:
    if not path.is_dir():
        raise ConfigError(f"{path}: no such policy folder. Run 'wardgate init', or set 'policy.pack'.")


def _is_test(name: str) -> bool:
    return name.endswith("_test.rego")


def _shipped(pack: str | None) -> Sources:
    """The shipped libraries and, over them, a pack with what it extends."""
    sources = Sources(files=_read_folder(library_path() / "lib", "shipped/lib").files, data={})
    return sources if pack is None else _over(sources, _read_pack(pack))


def _outside_roots(
    archive: Archive, label: str, modules: Iterable[Module], monitors: Iterable[Source]
) -> Iterator[Problem]:
    """OPA refuses these: another bundle might own what lies there."""
    roots = archive.manifest.roots
    for module in modules:
        within = module.file.removeprefix(f"{label}/") in archive.files
        if within and outside_roots(roots, module.package.split(".")):
            said = f"the package '{module.package}' is outside of the manifest's roots"
            yield Problem(module.file, 1, "package", said)
    for source in monitors:
        within = source.file == f"{label}/{source.name}" and source.name in archive.files
        if within and outside_roots(roots, source.name.split("/")[:-1]):
            yield Problem(source.file, 1, "monitor", "lies outside of the manifest's roots")


def _named(modules: Sequence[Module], data: Mapping[str, Any]) -> tuple[list[Module], list[Problem]]:
    """Put the names in the data that ``scope.arguments`` and ``scope.tools`` refer to in their place."""
    done: list[Module] = []
    problems: list[Problem] = []
    for module in modules:
        if module.meta is None or not (module.scope.arguments or module.scope.tools):
            done.append(module)
            continue
        arguments = [name.lower() for name in _resolved(module, "arguments", data, problems)]
        tools = _resolved(module, "tools", data, problems)
        problems += [
            Problem(module.file, 1, "scope", f"scope.tools: '{glob}' must be 'upstream/name', as in 'git/*'")
            for glob in tools if "/" not in glob and glob != "*"
        ]  # fmt: skip
        scope = replace(module.scope, arguments=tuple(arguments), tools=tuple(tools))
        custom = replace(module.custom, scope=scope)
        done.append(replace(module, meta=replace(module.meta, custom=custom)))
    return done, problems


def _resolved(module: Module, key: str, data: Mapping[str, Any], problems: list[Problem]) -> list[str]:
    names: list[str] = []
    for item in getattr(module.scope, key):
        found = _list_at(item, data) if item.startswith("data.") else [item]
        if not found:
            # An empty list would put the module out of every scope without a word.
            said = f"scope.{key}: {item} is no list of names in the data"
            problems.append(Problem(module.file, 1, "scope", said))
        names += found
    return names


def _list_at(path: str, data: Mapping[str, Any]) -> list[str]:
    """The strings of a list in the data, or the keys of an object; nothing when there is neither."""
    value: Any = data
    for part in path.split(".")[1:]:
        value = value.get(part) if isinstance(value, Mapping) else None
    names = list(value) if isinstance(value, list | Mapping) else []
    return names if all(isinstance(name, str) for name in names) else []


def _read_pack(pack: str) -> Sources:
    """The modules a pack chooses with their tests, over the data of the library and of each pack in line."""
    root = library_path()
    chosen = choose(pack)
    data = _data_of(root, "shipped")
    for name in chosen.packs:
        over = _data_of(root / "packs" / name, f"shipped/packs/{name}")
        data = policy_data.merge(data, over, override=True)
    files = []
    for path, observe in chosen.modules.items():
        name = path.relative_to(root).as_posix()
        text = in_mode(path.read_text(encoding="utf-8"), observe)
        files.append(Source(f"shipped/{name}", name, text))
        test = path.with_name(f"{path.stem}_test.rego")
        name = test.relative_to(root).as_posix()
        files.append(Source(f"shipped/{name}", name, test.read_text(encoding="utf-8")))
    monitors = [
        Source(f"shipped/monitors/{path.name}", f"monitors/{path.name}", path.read_text(encoding="utf-8"))
        for path in chosen.monitors
    ]
    return Sources(files=tuple(files), data=data, monitors=tuple(monitors))


def _data_of(folder: Path, label: str) -> dict[str, Any]:
    path = folder / "data.yaml"
    try:
        return policy_data.parse(path.name, path.read_bytes()) if path.is_file() else {}
    except policy_data.DataError as error:
        raise ConfigError(f"{label}/data.yaml: {error}") from error


def _read_folder(root: Path, label: str) -> Sources:
    return _sources(_read_tree(root, label), label)


def _read_tree(root: Path, label: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents below ``root``; hidden files are left out."""
    paths = [path for path in sorted(root.rglob("*")) if not _hidden(path, root) and path.is_file()]
    if len(paths) > _MAX_FILES:
        raise ConfigError(f"{root}: more than {_MAX_FILES} files; is this a policy folder?")
    for path in paths:
        name = path.relative_to(root).as_posix()
        if _matters(name):
            try:
                yield name, path.read_bytes()
            except OSError as error:
                raise ConfigError(f"{label}/{name}: cannot be read: {error.strerror}") from error


def _matters(name: str) -> bool:
    known = name.endswith(".rego") or name.rpartition("/")[2] in policy_data.NAMES
    return known or policy_monitors.is_file(name)


def _sources(files: Iterable[tuple[str, bytes]], label: str) -> Sources:
    """Modules and monitors as text, and all data merged; files of other kinds have no meaning."""
    found: list[Source] = []
    monitors: list[Source] = []
    data: dict[str, Any] = {}
    for name, raw in files:
        if not _matters(name):
            continue
        file = f"{label}/{name}"
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{file}: is not UTF-8. Save it as UTF-8.") from error
        if len(raw) > _MAX_FILE and (name.endswith(".rego") or policy_monitors.is_file(name)):
            raise ConfigError(f"{file}: larger than {_MAX_FILE} bytes. Split the file.")
        if policy_monitors.is_file(name):
            monitors.append(Source(file, name, text))
            continue
        if not name.endswith(".rego"):
            try:
                mounted = policy_data.mount(Path(name).parent, policy_data.parse(name, raw))
                data = policy_data.merge(data, mounted, override=False)
            except policy_data.DataError as error:
                raise ConfigError(f"{file}: {error}") from error
            continue
        found.append(Source(file, name, text))
    return Sources(files=tuple(found), data=data, monitors=tuple(monitors))


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _package(text: str) -> str:
    """Package of a module, enough to see that one replaces another."""
    for line in text.splitlines():
        if line.startswith("package"):
            return line.split("#")[0].removeprefix("package").strip()
    return ""


def _over(under: Sources, over: Sources) -> Sources:
    """Lay a folder over what was read before: a file of the same package and name replaces."""
    taken = {(_package(item.text), item.name.endswith("_test.rego")) for item in over.files}
    kept = [s for s in under.files if (_package(s.text), s.name.endswith("_test.rego")) not in taken]
    return Sources(
        files=(*kept, *over.files),
        data=policy_data.merge(under.data, over.data, override=True),
        monitors=(*under.monitors, *over.monitors),
    )


def _parse(sources: Sources) -> tuple[list[Module], list[Problem]]:
    """Modules with their syntax and metadata, and what is wrong with them."""
    modules: list[Module] = []
    problems: list[Problem] = []
    for source in sources.files:
        engine = new_engine()
        try:
            engine.add_policy(source.file, source.text)
            tree = orjson.loads(engine.get_ast_as_json())[0]
        except RuntimeError as error:
            _, line, said = explain(error)
            problems.append(Problem(source.file, line or 1, "parse-error", said))
            continue
        found = syntax.read(tree)
        role = _role(source, found.package)
        meta = None
        if role == "rule":
            try:
                meta = metadata.parse(source.text)
            except metadata.MetadataError as error:
                problems.append(Problem(source.file, error.line, "metadata", str(error)))
                continue
        modules.append(
            Module(
                file=source.file, name=source.name, text=source.text, role=role, syntax=found, meta=meta,
                sets=tuple(name for name in syntax.SETS if any(rule.name == name for rule in found.rules)),
            )
        )  # fmt: skip
    return modules, problems


def _role(source: Source, package: str) -> Role:
    if _is_test(source.name):
        return "test"
    return "rule" if f"{package}.".startswith(RULES) else "library"


def _revision(modules: list[Module], data: Mapping[str, Any], monitors: Mapping[str, Definition]) -> str:
    """SHA-256 over the engine, every module that decides, the data and the monitors.

    Not over tests nor where anything lies.
    """
    digest = sha256(NAME.encode())
    for module in sorted(modules, key=lambda m: (m.package, m.name)):
        if module.role != "test":
            digest.update(orjson.dumps([module.package, module.text]))
    digest.update(orjson.dumps(data, option=orjson.OPT_SORT_KEYS))
    if monitors:
        digest.update(b"monitors" + orjson.dumps(msgspec.to_builtins(monitors), option=orjson.OPT_SORT_KEYS))
    return digest.hexdigest()
