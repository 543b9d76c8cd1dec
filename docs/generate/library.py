"""Writes docs/reference/policy-library.md from the METADATA of the shipped modules: ``make docs``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.policy.bundle import read_bundle
from gateway.policy.library import choose, library_path, packs, read_pack
from gateway.policy.module import Bundle, Module

PAGE: Final = Path(__file__).parents[1] / "reference" / "policy-library.md"


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write("docs/reference/policy-library.md\n")


def page() -> str:
    """The whole page, as it should be."""
    return "\n".join(_lines()).rstrip() + "\n"


def _lines() -> Iterator[str]:
    yield from (
        "# Policy library",
        "",
        "Written from the modules by docs/generate/library.py (`make docs`). Limits and lists of all modules",
        "are in `policies/data.yaml`; what a pack says otherwise is in its own. How to take one into use:",
        "[Choose and adapt a pack](../how-to/choose-a-pack.md).",
        "",
        "## Packs",
        "",
        "| pack | extends | adds | |",
        "|---|---|---|---|",
    )
    for name in packs():
        pack = read_pack(name)
        added = ", ".join(
            f"`{module}`{' (observe)' if module in pack.observe else ''}" for module in pack.modules
        )
        yield f"| `{name}` | {', '.join(f'`{base}`' for base in pack.extends)} | {added} | {pack.about} |"
    yield ""
    yield from _monitors()
    bundle = read_bundle(None, "strict")
    where = {
        name: {path.stem for path, observe in choose(name).modules.items() if not observe} for name in packs()
    }
    area = ""
    for module in sorted(bundle.rules, key=lambda rule: (rule.name.split("/")[1], rule.id)):
        if module.name.split("/")[1] != area:
            area = module.name.split("/")[1]
            yield from (f"## {area.capitalize()}", "")
        yield from _module(
            bundle, module, [name for name in packs() if Path(module.name).stem in where[name]]
        )


def _monitors() -> Iterator[str]:
    yield from (
        "## Monitors",
        "",
        "What a session does in a row; see [Monitors](monitors.md). `sessions.monitors` acts on them.",
        "",
        "| monitor | template | when violated | for | in |",
        "|---|---|---|---|---|",
    )
    known = {name: read_bundle(None, name).monitors for name in packs()}
    for name, definition in known["strict"].items():
        where = ", ".join(pack for pack in packs() if name in known[pack])
        said = (f"`{name}`", f"`{definition.template}`", definition.on_violation, definition.about, where)
        yield f"| {' | '.join(said)} |"
    yield ""


def _module(bundle: Bundle, module: Module, enforced: list[str]) -> Iterator[str]:
    assert module.meta is not None
    source = library_path() / module.name
    scope = next((line for line in source.read_text().splitlines() if line.startswith("#   scope:")), "")
    yield from (f"### {module.meta.title}", "", " ".join(module.meta.description.split()), "")
    rows = {
        "id": f"`{module.id}` (`{module.name}`)",
        "phase, severity": f"{module.phase}, {module.custom.severity}",
        "scope": f"`{scope.removeprefix('#   scope:').strip()}`" if scope else "every call",
        "codes": ", ".join(f"`{code}`" for code in module.custom.codes),
        "data": ", ".join(f"`{key}`" for key in data_keys(bundle, module)),
        "enforced in": ", ".join(enforced),
    }
    yield from ("| | |", "|---|---|", *(f"| {key} | {text} |" for key, text in rows.items() if text), "")


def data_keys(bundle: Bundle, module: Module) -> list[str]:
    """Paths of the data that a module reads, itself or as names in its scope."""
    parts = (module, *(bundle.libraries[file] for file in module.libraries))
    read = {
        ".".join(("data", *item.path))
        for part in parts for item in part.syntax.reads
        if item.root == "data" and item.path[0] != "wardgate"
    }  # fmt: skip
    return sorted(read)


if __name__ == "__main__":
    main()
