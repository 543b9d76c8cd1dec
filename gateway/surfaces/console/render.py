"""Templates, and the few words they need for values: times, money, risk, text that must be inert."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from gateway.reasons import REASONS
from gateway.surfaces.console import inert, tree
from gateway.surfaces.console.files import File

RISKS: Final[Mapping[str, str]] = {
    "read": "only reads",
    "reversible": "can be taken back",
    "compensable": "can be made good, not undone",
    "irreversible": "cannot be undone",
}
EFFECTS: Final[Mapping[str, str]] = {
    "write": "writes",
    "egress": "sends data out",
    "money": "moves money",
    "delete": "deletes",
    "bulk": "touches many things at once",
}
MARKS: Final[Mapping[str, str]] = {
    "read": "○", "reversible": "●", "compensable": "◆", "irreversible": "▲",
    "allow": "✓", "modify": "✎", "hold": "‖", "block": "✕", "deny": "✕", "escalate": "‖",
    "pending": "‖", "approved": "✓", "executed": "✓", "rejected": "✕", "expired": "◌", "failed": "✕",
    "in_doubt": "?", "executing": "▸", "recovering": "▸", "cancelled": "–", "superseded": "↷",
    "open": "✕", "forced_open": "✕", "throttled": "◐", "guarded": "◑", "half_open": "◒", "closed": "✓",
    "ok": "✓", "degraded": "!", "down": "✕", "pinned": "✓", "changed": "!", "new": "+", "returned": "!",
    "removed": "–", "enforce": "■", "observe": "○", "warn": "◐",
    "verified": "✓", "refuted": "✕", "unknown": "?", "trusted": "✓", "untrusted": "!",
    "tightened": "▲", "loosened": "▼", "error": "✕",
}  # fmt: skip
"""A shape beside each state, because colour alone says nothing to many people."""

_GOOD: Final = ("read", "allow", "approved", "executed", "ok", "closed", "pinned", "verified", "trusted")
_WARN: Final = (
    "compensable", "pending", "hold", "escalate", "modify", "throttled", "guarded", "half_open", "degraded",
    "changed", "new", "returned", "in_doubt", "recovering", "executing", "untrusted", "warn", "unknown",
    "tightened",
)  # fmt: skip
_BAD: Final = (
    "irreversible", "block", "deny", "rejected", "failed", "open", "forced_open", "down", "refuted",
    "loosened", "error",
)  # fmt: skip
_TONES: Final[Mapping[str, str]] = {
    **dict.fromkeys(_GOOD, "good"),
    **dict.fromkeys(_WARN, "warn"),
    **dict.fromkeys(_BAD, "bad"),
}


_STAMP: Final = "%Y-%m-%d %H:%M:%S UTC"


def environment(static: Mapping[str, File]) -> Environment:
    made = Environment(
        loader=PackageLoader("gateway.surfaces.console", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals |= {
        "static": lambda name: static[name].url,
        "risk_words": RISKS,
        "effect_words": EFFECTS,
        "tree_rows": tree.rows,
        "reasons": REASONS,
    }
    made.filters |= {
        "inert": inert_text, "line": lambda value: _marked(tree.line(value)), "pieces": _marked,
        "moment": moment, "ago": ago, "left": left, "tag": tag, "money": money, "words": words,
        "pretty": pretty, "short": short, "base": base,
        "number": lambda value: f"{value:,}",
    }  # fmt: skip
    return made


def inert_text(value: object) -> Markup:
    """Text of somebody else: escaped, isolated in its direction, and what hides shown by name."""
    return _marked(inert.pieces(str(value)))


# Put together with ``escape`` rather than ``Markup.format``, which takes most of the time of a page of fifty.


def _marked(pieces: Any) -> Markup:
    parts = [
        f'<span class="cp" title="{escape(piece.name)}">{escape(piece.text)}</span>'
        if piece.name
        else escape(piece.text)
        for piece in pieces
    ]
    return Markup(f"<bdi>{''.join(parts)}</bdi>")  # noqa: S704 - every part is escaped


def moment(value: str | int | None) -> Markup:
    """A time; the script shows it in the reader's own zone."""
    at = _time(value)
    return Markup("–") if at is None else _timed(at, "data-at", at.strftime(_STAMP))


def ago(value: str | int | None) -> Markup:
    """How long since, with the time itself on pointing."""
    at = _time(value)
    if at is None:
        return Markup("–")
    passed = (datetime.now(UTC) - at).total_seconds()
    return _timed(at, "data-since", f"{span(passed)} ago" if passed >= 0 else "soon")


def left(value: str | int | None) -> Markup:
    """How long until."""
    at = _time(value)
    if at is None:
        return Markup("–")
    until = (at - datetime.now(UTC)).total_seconds()
    text = f"{span(until)} left" if until > 0 else "time is over"
    return _timed(at, "data-until", text, ' class="soon"' if until < 120 else "")


def _timed(at: datetime, kind: str, text: str, more: str = "") -> Markup:
    # Times and our own words: nothing in it comes from anybody.
    said = f'<time{more} datetime="{at.isoformat()}" title="{at.strftime(_STAMP)}" {kind}>{text}</time>'
    return Markup(said)  # noqa: S704


def span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size * (2 if unit != "min" else 1):
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def tag(value: object, kind: str = "") -> Markup:
    """A state as a word with a shape and a tone."""
    text = str(value)
    shown = escape(kind or text.replace("_", " "))
    mark = f'<span aria-hidden="true">{MARKS.get(text, "·")}</span>'
    return Markup(f'<span class="tag {_TONES.get(text, "plain")}">{mark} {shown}</span>')  # noqa: S704


def money(micro_usd: int) -> str:
    return f"${micro_usd / 1e6:,.2f}" if micro_usd % 10_000 == 0 else f"${micro_usd / 1e6:,.6f}"


def words(code: object) -> str:
    """A code or name as words."""
    return str(code).replace("_", " ")


def pretty(value: Any) -> Markup:
    """A value as indented JSON, inert."""
    return inert_text(
        orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS, default=str).decode()
    )


def base(path: object) -> str:
    """The name of a file without its folders."""
    return str(path).rpartition("/")[2]


def short(value: object, size: int = 8) -> str:
    """The first digits of an id or hash."""
    return str(value)[:size]


def _time(value: str | int | None) -> datetime | None:
    if value is None or value in ("", 0):
        return None
    if isinstance(value, int):
        return datetime.fromtimestamp(value / 1e9, UTC)
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
