"""``make parity``: 20,000 generated inputs and the stored ones, decided by both engines over the packs.

Writes ``build/parity.json``; exits 1 when anything differs. ``--inputs N`` generates N.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path

import msgspec

from tests.policy.parity.compare import Compared, generated
from tests.policy.parity.engines import Pair, pairs
from tests.policy.parity.inputs import EDGES, GOLDEN, stored

_SHOWN = 20


def main() -> int:
    parser = argparse.ArgumentParser(description="Both engines on the same inputs.")
    parser.add_argument("--inputs", type=int, default=20_000, help="how many to generate")
    parser.add_argument("--out", type=Path, default=Path("build/parity.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="parity") as folder, pairs(Path(folder)) as both:
        started = time.monotonic()
        compared = Compared()
        for asked in (*stored(GOLDEN), *stored(EDGES)):
            compared.ask(both, asked)
        known = compared.inputs
        generated(both, options.inputs, compared)
        report = _report(both, compared, known, time.monotonic() - started)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1, default=str) + "\n", encoding="utf-8")
    print(f"{report['inputs']} inputs, {report['decisions']} decisions by each engine, "
          f"{report['differences']} differences; {options.out}")  # fmt: skip
    return 1 if compared.differences else 0


def _report(both: list[Pair], compared: Compared, known: int, seconds: float) -> dict[str, object]:
    return {
        "engines": both[0].engines,
        "packs": [pair.name for pair in both],
        "inputs": compared.inputs,
        "stored": known,
        "decisions": compared.decisions,
        "differences": len(compared.differences),
        "seconds": round(seconds, 1),
        "codes": dict(Counter(compared.codes).most_common()),
        "shown": [msgspec.to_builtins(item) for item in compared.differences[:_SHOWN]],
    }


if __name__ == "__main__":
    raise SystemExit(main())
