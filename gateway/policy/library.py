"""The shipped policies: where they are, and which modules make up a pack.

They lie beside the package in a checkout and inside it in an installed wheel. ``rules/`` holds every module
once, ``data.yaml`` the limits of all of them; a pack chooses modules and lays its own ``data.yaml`` over.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

import msgspec

from gateway.errors import ConfigError

_MODE: Final = re.compile(r"^#   mode: enforce$", re.MULTILINE)


class Pack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``pack.yaml``. ``modules`` are names of files below ``rules/``; those in ``observe`` only record.

    ``monitors`` are names of files in ``monitors/``.
    """

    title: str
    about: str
    extends: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    observe: tuple[str, ...] = ()
    monitors: tuple[str, ...] = ()


class Chosen(msgspec.Struct, frozen=True):
    """A pack with all it extends, the base first; ``modules``: each file, and whether it only records."""

    packs: tuple[str, ...]
    modules: dict[Path, bool]
    monitors: tuple[Path, ...] = ()


def library_path() -> Path:
    """The folder that holds ``lib/``, ``rules/`` and ``packs/``."""
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "_policies", package.parent / "policies"):
        if (candidate / "lib").is_dir():
            return candidate
    raise ConfigError("the shipped policies are missing from this installation; install wardgate again")


def packs() -> tuple[str, ...]:
    """Names of the shipped packs."""
    return tuple(sorted(path.name for path in (library_path() / "packs").iterdir() if path.is_dir()))


def read_pack(name: str) -> Pack:
    """What a pack says of itself."""
    if name not in packs():
        raise ConfigError(f"policy.pack: there is no pack '{name}'; there are {', '.join(packs())}")
    path = library_path() / "packs" / name / "pack.yaml"
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=Pack, strict=True)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def choose(name: str) -> Chosen:
    """Modules of a pack and of what it extends; what is said later about a module holds."""
    order: list[str] = []
    _line_up(name, (), order)
    files = {path.stem: path for path in sorted((library_path() / "rules").rglob("*.rego"))}
    modules: dict[Path, bool] = {}
    monitors: dict[Path, None] = {}
    for pack in order:
        said = read_pack(pack)
        for name in said.monitors:
            path = library_path() / "monitors" / f"{name}.yaml"
            if not path.is_file():
                raise ConfigError(f"pack '{pack}': there is no file '{name}.yaml' in monitors/")
            monitors[path] = None
        for module in said.modules:
            if module not in files:
                raise ConfigError(f"pack '{pack}': there is no module '{module}' below rules/")
            modules[files[module]] = module in said.observe
    return Chosen(tuple(order), modules, tuple(monitors))


def _line_up(name: str, above: tuple[str, ...], order: list[str]) -> None:
    """Add a pack after all it extends, each once."""
    if name in above:
        raise ConfigError(f"pack '{name}' extends itself: {' → '.join((*above, name))}")
    for base in read_pack(name).extends:
        _line_up(base, (*above, name), order)
    if name not in order:
        order.append(name)


def in_mode(text: str, observe: bool) -> str:
    """A module's text with the mode its pack wants; every shipped module names its mode on a line."""
    changed, count = _MODE.subn("#   mode: observe" if observe else "#   mode: enforce", text)
    if count != 1:  # a pack that says 'observe' must not enforce
        raise ConfigError("a shipped module must have exactly one line '#   mode: enforce'")
    return changed


def copy_pack(name: str, target: Path) -> None:
    """Write a pack's modules, their tests, monitors and data into a new folder, as a policy of one's own."""
    chosen = choose(name)
    target.mkdir(parents=True)
    for path, observe in chosen.modules.items():
        place = target / path.relative_to(library_path() / "rules")
        place.parent.mkdir(exist_ok=True)
        place.write_text(in_mode(path.read_text(encoding="utf-8"), observe), encoding="utf-8")
        shutil.copyfile(path.with_name(f"{path.stem}_test.rego"), place.with_name(f"{path.stem}_test.rego"))
    for path in chosen.monitors:
        (target / "monitors").mkdir(exist_ok=True)
        shutil.copyfile(path, target / "monitors" / path.name)
    shutil.copyfile(library_path() / "data.yaml", target / "data.yaml")
