"""Draw the overview board as it was: the same queries, answered by a Prometheus, as one SVG.

    python -m observability.picture http://127.0.0.1:9090 [minutes] > overview.svg

Grafana draws it better; this is for a page of documentation, and to see that the queries make sense together.
"""

from __future__ import annotations

import asyncio
import html
import json
import math
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any, Final, Protocol

from observability import queries

WIDTH: Final = 1200
_MARGIN: Final = 16
_COLOURS: Final = ("#4c9f70", "#c0504d", "#4472c4", "#d79b00", "#8064a2", "#2a9d8f", "#8d6e63", "#607d8b")
_INK, _PALE, _PAPER, _CARD = "#1f2933", "#7b8794", "#f5f7fa", "#ffffff"
_COLUMNS: Final = 24

Line = tuple[str, list[tuple[float, float]]]  # what it is called, and its points


class Source(Protocol):
    """Who answers queries."""

    async def series(self, expr: str) -> list[dict[str, Any]]: ...

    async def over(self, expr: str, start: float, end: float, step: float = 1) -> list[dict[str, Any]]: ...


async def draw(source: Source, start: float, end: float, job: str = "wardgate") -> str:
    """The part of the overview that is open, from ``start`` to ``end`` (seconds since the epoch)."""
    board = queries.boards()["overview.json"]
    step = max((end - start) / 240, 1.0)
    interval = f"{max(int(4 * step), 10)}s"
    parts = []
    bottom = 0
    for panel in board["panels"]:
        if panel["type"] == "row":
            continue
        place = panel["gridPos"]
        unit = (WIDTH - 2 * _MARGIN) / _COLUMNS
        x, y = _MARGIN + place["x"] * unit, 56 + place["y"] * 28
        width, height = place["w"] * unit - 8, place["h"] * 28 - 8
        bottom = max(bottom, int(y + height))
        card = (
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="4" fill="{_CARD}"/>'
        )
        parts += [card, _text(x + 10, y + 18, panel["title"], 12, _INK, weight=600)]
        asked = [
            (queries.filled(target["expr"], job=job, rate_interval=interval), target.get("legendFormat", ""))
            for target in panel["targets"]
        ]
        if panel["type"] == "stat":
            found = await source.series(asked[0][0])
            parts.append(_stat(panel, found, x, y, height))
        else:
            lines = [
                (_legend(legend, each["metric"]), [(float(at), float(value)) for at, value in each["values"]])
                for expr, legend in asked
                for each in await source.over(expr, start, end, step)
            ]
            parts += _graph(panel, lines, (x, y, width, height), start, end)
    head = _text(_MARGIN, 36, board["title"], 20, _INK, weight=600)
    span = f"{_clock(start)} – {_clock(end)} UTC"
    head += _text(WIDTH - _MARGIN, 36, span, 12, _PALE, anchor="end")
    size = f'width="{WIDTH}" height="{bottom + _MARGIN}" viewBox="0 0 {WIDTH} {bottom + _MARGIN}"'
    body = "\n".join([head, *parts])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif">\n'
        f'<rect width="100%" height="100%" fill="{_PAPER}"/>\n{body}\n</svg>\n'
    )


def _stat(panel: dict[str, Any], found: Sequence[dict[str, Any]], x: float, y: float, height: float) -> str:
    if not found:
        return _text(x + 10, y + height - 18, "no data", 16, _PALE)
    value = float(found[0]["value"][1])
    defaults = panel["fieldConfig"]["defaults"]
    colour = ""
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            colour = step["color"]
    return _text(
        x + 10, y + height - 18, _shown(value, defaults["unit"]), 26,
        {"green": "#2f855a", "red": "#c53030"}[colour], weight=600,
    )  # fmt: skip


def _graph(
    panel: dict[str, Any], lines: Sequence[Line],
    box: tuple[float, float, float, float], start: float, end: float,
) -> list[str]:  # fmt: skip
    x, y, width, height = box
    left, right, top, bottom = x + 54, x + width - 12, y + 30, y + height - 44
    kept = [(name, [(at, value) for at, value in points if not math.isnan(value)]) for name, points in lines]
    kept = [(name, points) for name, points in kept if any(value > 0 for _, value in points)][: len(_COLOURS)]
    stacked = "stacking" in panel["fieldConfig"]["defaults"].get("custom", {})
    if stacked:
        kept = _stacked(kept)
    most = max((value for _, points in kept for _, value in points), default=1.0) * 1.1 or 1.0
    unit = panel["fieldConfig"]["defaults"]["unit"]
    made = []
    for part in range(4):
        level = bottom - (bottom - top) * part / 3
        made.append(
            f'<line x1="{left:.0f}" y1="{level:.1f}" x2="{right:.0f}" y2="{level:.1f}" stroke="#e4e7eb"/>'
        )
        made.append(_text(left - 6, level + 4, _shown(most * part / 3, unit), 10, _PALE, anchor="end"))
    for part in range(4):
        at = start + (end - start) * part / 3
        where = left + (right - left) * part / 3
        anchor = ("start", "middle", "middle", "end")[part]
        made.append(_text(where, bottom + 14, _clock(at), 10, _PALE, anchor=anchor))
    reach = left
    for place, (name, points) in enumerate(kept):
        colour = _COLOURS[place]
        wide, tall = (right - left) / (end - start), (bottom - top) / most
        drawn = " ".join(
            f"{left + wide * (at - start):.1f},{bottom - tall * value:.1f}" for at, value in points
        )
        made.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        if reach + 18 + 6.2 * len(name) < right:
            made.append(
                f'<rect x="{reach:.0f}" y="{bottom + 25:.0f}" width="10" height="3" fill="{colour}"/>'
            )
            made.append(_text(reach + 14, bottom + 31, name, 11, _INK))
            reach += 24 + 6.2 * len(name)
    return made


def _stacked(
    lines: Sequence[Line],
) -> list[tuple[str, list[tuple[float, float]]]]:
    below: dict[float, float] = {}
    made = []
    for name, points in lines:
        raised = [(at, value + below.get(at, 0.0)) for at, value in points]
        below |= dict(raised)
        made.append((name, raised))
    return made


def _legend(pattern: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        pattern = pattern.replace("{{" + name + "}}", value)
    return pattern


def _shown(value: float, unit: str) -> str:
    if math.isnan(value):
        return "–"
    if unit == "percentunit":
        return f"{value * 100:.1f} %"
    if unit == "s":
        return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"
    return f"{value:.3g}" + (" /s" if unit in ("reqps", "ops", "wps") else "")


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(at))


def _text(
    x: float, y: float, words: str, size: int, colour: str, *, weight: int = 400, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" font-weight="{weight}" fill="{colour}" '
        f'text-anchor="{anchor}">{html.escape(words)}</text>'
    )


class Server:
    """A Prometheus at an address."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def _get(self, path: str, **query: str) -> list[dict[str, Any]]:
        address = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 - the operator's own address
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found

    async def series(self, expr: str) -> list[dict[str, Any]]:
        return self._get("query", query=expr)

    async def over(self, expr: str, start: float, end: float, step: float = 1) -> list[dict[str, Any]]:
        return self._get("query_range", query=expr, start=str(start), end=str(end), step=str(step))


if __name__ == "__main__":
    _minutes = float(sys.argv[2]) if len(sys.argv) > 2 else 60.0
    _now = time.time()
    sys.stdout.write(asyncio.run(draw(Server(sys.argv[1]), _now - 60 * _minutes, _now)))
