"""The queries of boards and rules as Prometheus is asked them: for tests and for the picture in the docs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

FOLDER: Final = Path(__file__).parent
_METRIC: Final = re.compile(r"\b(?:wardgate|process|python)_[a-z0-9_]+")
_RECORDED: Final = re.compile(r"\bjob:\w+:\w+")
_OF_HISTOGRAM: Final = re.compile(r"_(?:bucket|count|sum)$")


class Asked(NamedTuple):
    """One query of one panel, with Grafana's variables filled in."""

    board: str  # uid
    panel: str  # title
    expr: str
    legend: str
    instant: bool


def boards() -> dict[str, dict[str, Any]]:
    """The committed dashboards, by file name."""
    return {
        path.name: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))
    }


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All panels, those in collapsed rows too."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel["panels"]
        else:
            yield panel


def asked(board: dict[str, Any], *, job: str, rate_interval: str) -> Iterator[Asked]:
    """Every query of a board."""
    for panel in panels(board):
        for target in panel["targets"]:
            yield Asked(
                board["uid"],
                panel["title"],
                filled(target["expr"], job=job, rate_interval=rate_interval),
                target.get("legendFormat", ""),
                bool(target.get("instant")),
            )


def filled(expr: str, *, job: str, rate_interval: str) -> str:
    """An expression without variables."""
    return (
        expr.replace("$__rate_interval", rate_interval).replace("$job", job).replace("$instance", ".*")
    )  # fmt: skip


def metrics(expr: str) -> set[str]:
    """The metrics an expression asks for, histograms by their name."""
    return {_OF_HISTOGRAM.sub("", name) for name in _METRIC.findall(_RECORDED.sub("", expr))}
