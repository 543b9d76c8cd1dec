"""Write ``golden.jsonl`` anew: ``python -m tests.policy.parity.make_golden``. One library, one file."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, Phase, given, seed, settings

from gateway.policy import load, packs
from tests.policy.parity.inputs import GOLDEN, Input, inputs, words

COUNT = 320


def main(path: Path = GOLDEN) -> None:
    drawn: dict[bytes, Input] = {}

    @seed(20)
    @settings(max_examples=4000, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(inputs(words(load(None, name).bundle for name in packs())))
    def draw(made: Input) -> None:
        line = msgspec.json.encode(made)
        if len(line) < 700:
            drawn[line] = made

    draw()
    lines = sorted(drawn)
    random.Random(20).shuffle(lines)
    path.write_bytes(b"\n".join(lines[:COUNT]) + b"\n")


if __name__ == "__main__":
    main()
