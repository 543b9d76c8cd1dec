"""Reading a policy folder or archive and a shipped pack into one immutable ``Bundle``, or refusing it whole.

A folder follows OPA's layout: ``*.rego`` anywhere, ``*_test.rego`` beside them, ``data.yaml`` or
``data.json`` mounted at the folder they lie in. A folder lies over a pack: a module of the same package
replaces the pack's, data is merged key by key. Loading changes nothing but what it returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson
import yaml
from msgspec.structs import replace

from gateway.errors import ConfigError
from gateway.policy import data as policy_data
from gateway.policy import gate, metadata, syntax
from gateway.policy.archive import Archive, outside_roots, read_file
from gateway.policy.engine import NAME, explain, new_engine
from gateway.policy.library import library_path, packs
from gateway.policy.module import RULES, Bundle, Module, Role

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
    modules, problems = _parse(sources)
    if archive is not None:
        problems += _outside_roots(archive, label, modules)
    if not problems:
        modules, problems = gate.check(modules, sources.data)
    if not problems:
        modules, problems = _named(modules, sources.data)
    if problems:
        raise ConfigError("the policy cannot be loaded:\n" + "\n".join(f"  {item}" for item in problems))
    rules = tuple(sorted((m for m in modules if m.role == "rule"), key=lambda m: m.id))
    if not rules:
        raise ConfigError(
            f"{path or pack or 'policy'}: no rule module found, so every call would be refused. "
            "Run 'wardgate init', or set 'policy.pack: starter'."
        )
    return Bundle(
        revision=_revision(modules, sources.data),
        rules=rules,
        libraries={m.file: m for m in modules if m.role == "library"},
        tests=tuple(m for m in modules if m.role == "test"),
        data=sources.data,
        codes=frozenset(code for rule in rules for code in rule.custom.codes),
    )


def collect(path: Path | None, pack: str | None) -> dict[str, bytes]:
    """The files of a bundle that needs nothing else: the folder, its pack and the shipped libraries.

    Modules and tests of the folder keep their names, shipped modules lie below ``shipped/``; data is one
    document.
    """
    sources = _shipped(pack)
    if path is not None:
        _must_be_folder(path)
        sources = _over(sources, _read_folder(path, str(path)))
    own = f"{path}/"
    # What was tested when it was shipped need not be tested wherever it is used.
    wanted = [s for s in sources.files if not (s.file.startswith("shipped/") and _is_test(s.name))]
    files = {source.file.removeprefix(own): source.text.encode() for source in wanted}
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
    for name in _pack_chain(pack) if pack is not None else ():
        sources = _over(sources, _read_folder(library_path() / "packs" / name, f"shipped/packs/{name}"))
    return sources


def _outside_roots(archive: Archive, label: str, modules: Iterable[Module]) -> Iterator[str]:
    """OPA refuses these: another bundle might own what lies there."""
    roots = archive.manifest.roots
    for module in modules:
        within = module.file.removeprefix(f"{label}/") in archive.files
        if within and outside_roots(roots, module.package.split(".")):
            yield f"{module.file}:1: the package '{module.package}' is outside of the manifest's roots"


def _named(modules: Sequence[Module], data: Mapping[str, Any]) -> tuple[list[Module], list[str]]:
    """Put the names that ``scope.arguments`` refers to in the data in place of the reference."""
    done: list[Module] = []
    problems: list[str] = []
    for module in modules:
        if module.meta is None or not module.scope.arguments:
            done.append(module)
            continue
        names: list[str] = []
        for item in module.scope.arguments:
            found = _list_at(item, data) if item.startswith("data.") else [item]
            if not found:
                # An empty list would put the module out of every scope without a word.
                problems.append(f"{module.file}:1: scope.arguments: {item} is no list of names in the data")
            names += found
        scope = replace(module.scope, arguments=tuple(name.lower() for name in names))
        custom = replace(module.custom, scope=scope)
        done.append(replace(module, meta=replace(module.meta, custom=custom)))
    return done, problems


def _list_at(path: str, data: Mapping[str, Any]) -> list[str]:
    """The strings of a list in the data; nothing when there is no such list."""
    value: Any = data
    for part in path.split(".")[1:]:
        value = value.get(part) if isinstance(value, Mapping) else None
    strings = isinstance(value, list) and all(isinstance(name, str) for name in value)
    return value if strings else []


def _pack_chain(pack: str) -> list[str]:
    """A pack and what it extends, the base first."""
    chain: list[str] = []
    name: str | None = pack
    while name is not None:
        if name not in packs() or name in chain:
            raise ConfigError(f"policy.pack: there is no pack '{name}'; there are {', '.join(packs())}")
        chain.insert(0, name)
        about = library_path() / "packs" / name / "pack.yaml"
        name = (
            (yaml.safe_load(about.read_text(encoding="utf-8")) or {}).get("extends")
            if about.is_file()
            else None
        )
    return chain


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
    return name.endswith(".rego") or name.rpartition("/")[2] in policy_data.NAMES


def _sources(files: Iterable[tuple[str, bytes]], label: str) -> Sources:
    """Modules as text, and all data merged; files of other kinds have no meaning."""
    found: list[Source] = []
    data: dict[str, Any] = {}
    for name, raw in files:
        if not _matters(name):
            continue
        file = f"{label}/{name}"
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{file}: is not UTF-8. Save it as UTF-8.") from error
        if not name.endswith(".rego"):
            try:
                mounted = policy_data.mount(Path(name).parent, policy_data.parse(name, raw))
                data = policy_data.merge(data, mounted, override=False)
            except policy_data.DataError as error:
                raise ConfigError(f"{file}: {error}") from error
            continue
        if len(raw) > _MAX_FILE:
            raise ConfigError(f"{file}: larger than {_MAX_FILE} bytes. Split the module.")
        found.append(Source(file, name, text))
    return Sources(files=tuple(found), data=data)


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
    return Sources(files=(*kept, *over.files), data=policy_data.merge(under.data, over.data, override=True))


def _parse(sources: Sources) -> tuple[list[Module], list[str]]:
    """Modules with their syntax and metadata, and what is wrong with them."""
    modules: list[Module] = []
    problems: list[str] = []
    for source in sources.files:
        engine = new_engine()
        try:
            engine.add_policy(source.file, source.text)
            tree = orjson.loads(engine.get_ast_as_json())[0]
        except RuntimeError as error:
            _, line, said = explain(error)
            problems.append(f"{source.file}:{line or 1}: {said}")
            continue
        found = syntax.read(tree)
        role = _role(source, found.package)
        meta = None
        if role == "rule":
            try:
                meta = metadata.parse(source.text)
            except metadata.MetadataError as error:
                problems.append(f"{source.file}:{error.line}: {error}")
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


def _revision(modules: list[Module], data: Mapping[str, Any]) -> str:
    """SHA-256 over the engine, every module that decides and the data; not over tests nor where they lie."""
    digest = sha256(NAME.encode())
    for module in sorted(modules, key=lambda m: (m.package, m.name)):
        if module.role != "test":
            digest.update(orjson.dumps([module.package, module.text]))
    digest.update(orjson.dumps(data, option=orjson.OPT_SORT_KEYS))
    return digest.hexdigest()
