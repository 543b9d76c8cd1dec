"""Write the dashboards: ``make dashboards``. What is committed is what this makes (a test holds it)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from observability.boards import agents, approvals, overview, policy, tools
from observability.boards.panels import build

FOLDER: Final = Path(__file__).parents[1] / "grafana" / "dashboards"
BOARDS: Final = (overview.BOARD, policy.BOARD, approvals.BOARD, tools.BOARD, agents.BOARD)

UNUSED: Final[Mapping[str, str]] = {}
"""Metrics that no board and no alert uses, and why not."""


class _Encoder(JSONEncoder):
    """The builder writes ``"options": null`` where a panel has none, which Grafana's own schema refuses."""

    def default(self, o: Any) -> Any:
        made = super().default(o)
        if isinstance(made, dict):
            return {name: value for name, value in made.items() if value is not None or name == "value"}
        return made


def files() -> dict[str, str]:
    """File name → JSON."""
    encoder = _Encoder(sort_keys=True, indent=1)
    return {
        f"{board.uid.removeprefix('wardgate-')}.json": encoder.encode(build(board)) + "\n" for board in BOARDS
    }


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
