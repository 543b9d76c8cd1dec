"""Writes the generated part of ``docs/reference/dashboards-and-alerts.md``: ``make docs``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import yaml

from observability import queries

PAGE: Final = Path(__file__).parents[1] / "reference" / "dashboards-and-alerts.md"
MARK: Final = "<!-- Generated from here on by docs/generate/dashboards.py (make docs). -->\n"
ALERTS: Final = queries.FOLDER / "prometheus" / "rules" / "alerts.yml"
SLO: Final = queries.FOLDER / "prometheus" / "rules" / "slo.yml"


def page() -> str:
    """The whole page, as it should be."""
    top, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    if not mark:
        raise SystemExit(f"{PAGE} has no line that says where the generated part begins")
    return f"{top}{MARK}\n" + "\n".join([*_alerts(), *_recorded(), *_boards()]).rstrip() + "\n"


def _alerts() -> list[str]:
    lines = ["## Alerts", "", "| alert | severity | for | says | runbook |", "|---|---|---|---|---|"]
    for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]:
        for alert in group["rules"]:
            name = alert["alert"]
            row = (
                f"`{name}`",
                alert["labels"]["severity"],
                alert.get("for", "at once"),
                alert["annotations"]["summary"].replace("{{ $labels.", "").replace(" }}", ""),
                f"[read](../../observability/runbooks/{name}.md)",
            )
            lines.append(f"| {' | '.join(row)} |")
    return [*lines, ""]


def _recorded() -> list[str]:
    names = [
        f"- `{rule['record']}`"
        for group in yaml.safe_load(SLO.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]
    return ["## Recorded series", "", *names, ""]


def _boards() -> list[str]:
    lines = ["## Dashboards", ""]
    for board in sorted(queries.boards().values(), key=lambda board: board["title"]):
        lines += [f"### {board['title']}", "", f"`/d/{board['uid']}`. {board['description']}", ""]
        lines += ["| panel | shows |", "|---|---|"]
        lines += [_panel(panel) for panel in queries.panels(board)]
        lines.append("")
    return lines


def _panel(panel: dict[str, Any]) -> str:
    return f"| {panel['title']} | {panel['description']} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write("docs/reference/dashboards-and-alerts.md\n")
