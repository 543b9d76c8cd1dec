"""``wardgate policy bench``: what decisions cost, and whether that has changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.output import (
    DEFAULT_CONFIG,
    FOUND_SOMETHING,
    NOT_FOUND,
    AsJson,
    ConfigPath,
    fail,
    note,
    print_json,
    print_table,
    say,
)
from gateway.cli.policy_source import Folder, Pack, shown, source_of


def bench(
    folder: Folder = None,
    pack: Pack = None,
    rounds: Annotated[int, typer.Option(min=10, max=1_000_000, help="Decisions of each case.")] = 2000,
    flat: Annotated[
        bool, typer.Option("--flat", help="Also with 10 to 1,000 more modules and 10 to 10,000 tools.")
    ] = False,
    save: Annotated[Path | None, typer.Option(help="Write the figures here, to compare with later.")] = None,
    compare: Annotated[Path | None, typer.Option(help="Compare with figures saved earlier.")] = None,
    threshold: Annotated[
        float, typer.Option(min=1, help="How many times slower a case may be before this exits with 1.")
    ] = 1.5,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Measure what each case of the YAML tables costs to decide, in CPU time of one core.

    Without tables one call of each risk class is measured. Nothing is remembered between decisions but what
    the gateway remembers too. Figures of two machines are not comparable.
    """
    import msgspec

    from gateway.policy import cases
    from gateway.policy.bench import flatness, measure, standard
    from gateway.policy.bundle import read_bundle

    before = _saved(compare) if compare is not None else None
    path, chosen = source_of(folder, config, pack)
    bundle = read_bundle(path, chosen)
    tables = cases.folder_cases(path, chosen) or standard()
    figures = list(shown(measure(bundle, tables, rounds), len(tables), "bench"))
    flats = list(flatness(bundle, tables, rounds)) if flat else []
    found: dict[str, Any] = {
        "revision": bundle.revision, "rounds": rounds,
        "cases": [msgspec.to_builtins(each) for each in figures],
        "flat": [msgspec.to_builtins(each) for each in flats],
    }  # fmt: skip
    if save is not None:
        save.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    slower = []
    for each in found["cases"]:
        was = None if before is None else before.get(each["name"])
        each["before_p50_us"] = was
        if was and each["p50_us"] > was * threshold:
            slower.append(each["name"])
    if as_json:
        print_json(found | {"slower": slower})
    else:
        print_table(
            f"revision {bundle.revision[:12]}, µs of CPU a decision",
            ["case", "p50", "p99", "before", "rules", "remembered"],
            [[each["name"], f"{each['p50_us']:.0f}", f"{each['p99_us']:.0f}",
              "" if each["before_p50_us"] is None else f"{each['before_p50_us']:.0f}",
              str(each["rules"]), str(each["memoised"])] for each in found["cases"]],
        )  # fmt: skip
        for line in flats:
            say(f"{line.modules:>6,} modules more, {line.tools:>6,} tools: p50 {line.p50_us:.0f} µs")
    if slower:
        note(f"More than {threshold:g} times slower than before: {', '.join(slower)}.")
        raise typer.Exit(FOUND_SOMETHING)


def _saved(path: Path) -> dict[str, float]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {each["name"]: float(each["p50_us"]) for each in found["cases"]}
    except FileNotFoundError:
        fail(f"There is no {path}.", "Make it with --save.", NOT_FOUND)
    except (OSError, ValueError, KeyError, TypeError) as error:
        fail(f"{path} has no saved figures: {error}.", "Make it with --save.")
