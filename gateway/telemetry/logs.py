"""Logs: one line a message, JSON or text, that neither leak nor lie.

- No secret: only the fields of ``FIELDS`` are written, never arguments or results; of a foreign exception
  the type and the place, never its text (which may quote what it choked on); credentials are masked.
- No forgery: control characters, line ends, terminal escapes and bidirectional overrides inside values are
  written as ``\\uXXXX``, so a value cannot start a new line or recolour the one it is in.
- No flood: a message that repeats is written ``BURST`` times a minute, then counted (``suppressed``).
"""

from __future__ import annotations

import logging
import re
import sys
import time
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final, Literal, TextIO

import msgspec
import orjson

from gateway.errors import ConfigError, WardgateError

FIELDS: Final = (
    # who and what
    "call_id", "trace_id", "agent", "tenant", "operator", "session", "surface", "upstream", "target",
    "code", "action", "status",
    # what is in force
    "config", "keys", "policy", "catalog", "revision",
    # breakers
    "trip", "detector", "scope", "key", "spared", "by", "reason",
    # trust
    "domain", "cause", "ref",
    # the process
    "agents", "admin", "in_flight", "calls", "what", "error", "count", "names", "seconds", "pid",
)  # fmt: skip
"""What ``extra={…}`` may carry; anything else is left out."""


class UnderWay(msgspec.Struct):
    """The call a task is working on. Light, because tasks that were started meanwhile hold on to it."""

    call_id: str  # "" when the call is over
    trace_id: str


under_way: Final[ContextVar[UnderWay | None]] = ContextVar("wardgate_call", default=None)
"""Every line that is written while a call is worked on carries its ids, whoever writes it."""

BURST: Final = 10
WINDOW_S: Final = 60.0
LONGEST: Final = 4000  # characters of a message

_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SECRET: Final = re.compile(
    r"(?i:\b(bearer|basic)\s+)[\w.~+/=-]{6,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"
    r"|(?i:\b(authorization|password|passwd|secret|token|api[_-]?key)(\"?\s*[:=]\s*\"?)(?:(?:bearer|basic)\s+)?)[^\s\",;&]{3,}"
    r"|\bwg[a-z]_[\w-]{4,}"
)
_NOISY: Final = ("httpx", "httpcore", "asyncio", "urllib3", "alembic", "watchfiles", "uvicorn.error")


def configure(
    level: Literal["debug", "info", "warning", "error"] = "info",
    style: Literal["json", "text"] = "json",
    stream: TextIO | None = None,
) -> None:
    """Send all logs of the process to ``stream`` (standard error) in one style."""
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    handler.addFilter(Repeats())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # Access lines would carry whatever a client puts into its URLs; requests are counted instead.
    logging.getLogger("uvicorn.access").disabled = True


def clean(text: str) -> str:
    """Mask credentials and escape what could forge or recolour a line."""
    text = _SECRET.sub(_masked, text)
    if len(text) > LONGEST:
        text = text[:LONGEST] + "…"
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def _masked(match: re.Match[str]) -> str:
    if match.group(1):
        return f"{match.group(1)} ***"
    if match.group(2):
        return f"{match.group(2)}{match.group(3)}***"
    return "***"


def _fields(record: logging.LogRecord) -> dict[str, str | int | float]:
    """The allowed extras, the repeat count and the exception of a record."""
    found: dict[str, str | int | float] = {}
    for name in FIELDS:
        value = record.__dict__.get(name)
        if isinstance(value, (int, float)):
            found[name] = value
        elif isinstance(value, str) and value:
            found[name] = clean(value)
    current = under_way.get()
    if current is not None and current.call_id and found.get("call_id", current.call_id) == current.call_id:
        found["call_id"], found["trace_id"] = current.call_id, current.trace_id
    suppressed = record.__dict__.get("suppressed")
    if suppressed:
        found["suppressed"] = suppressed
    if record.exc_info and record.exc_info[1] is not None:
        found["error"] = _error(record.exc_info[1])
        found["where"] = _where(record.exc_info[1])
    return found


def _error(error: BaseException) -> str:
    """Type and text of our own errors, whose text is written for operators; of others only the type."""
    name = type(error).__name__
    if isinstance(error, (WardgateError, ConfigError)):
        return clean(f"{name}: {error}")
    if isinstance(error, OSError) and error.strerror:
        return clean(f"{name}: {error.strerror}")
    return name


def _where(error: BaseException) -> str:
    """The innermost places of a traceback, without source lines and values."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return " > ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames)


def _message(record: logging.LogRecord) -> str:
    try:
        return clean(record.getMessage())
    except (TypeError, ValueError):
        return clean(str(record.msg))  # a wrong number of arguments must not lose the line


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **_fields(record),
        }
        return orjson.dumps(line).decode()


class TextFormatter(logging.Formatter):
    """One line for people."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        extras = "".join(f" {name}={value}" for name, value in _fields(record).items())
        return f"{at} {record.levelname:<7} {record.name}: {_message(record)}{extras}"


class Repeats(logging.Filter):
    """Lets each message template through ``BURST`` times a window and counts the rest."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        key = (record.name, record.levelno, str(record.msg))
        now = self._clock()
        since, count = self._seen.get(key, (now, 0))
        if now - since >= WINDOW_S:
            if count > BURST:
                record.suppressed = count - BURST
            since, count = now, 0
        if len(self._seen) > 1000:  # templates are few; if somebody formats values into them, stay bounded
            self._seen.clear()
        self._seen[key] = (since, count + 1)
        return count < BURST
