"""From what somebody wrote to a mandate, or to everything that is wrong with it.

Nothing is repaired and nothing is dropped: an unknown word may be a bound that its writer counts on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec
import orjson

from gateway import strictjson
from gateway.errors import BadMandate, Fault, Refused
from gateway.model import Json, Risk
from gateway.sessions.budgets import MAX_AMOUNT, METRICS
from gateway.sessions.mandate.bounds import WORDS, Bounds, compiled
from gateway.sessions.mandate.containment import Ceiling, above, inherited, within
from gateway.sessions.mandate.globs import overlaps
from gateway.sessions.mandate.reading import Reading, place, size_of
from gateway.sessions.mandate.value import RISKS, Horizon, Mandate, Milestone, Proof, identified

MAX_BYTES: Final = 65_536
MAX_OBJECTIVE: Final = 1_024
MAX_REQUEST: Final = 16_384
MAX_TOOLS: Final = 128
MAX_BOUNDS: Final = 64
MAX_TRUSTED: Final = 256
MAX_MILESTONES: Final = 16
MAX_NAME: Final = 320  # of an upstream, '/' and a tool
MAX_TEXT: Final = 512
MAX_DEPTH: Final = 4  # of a pointer into arguments
MAX_TOOL_BOUNDS: Final = 2_048  # bytes of JSON: they are facts, and facts are small
MAX_TTL_S: Final = 366 * 86_400

_KEYS: Final = (
    "objective", "request", "tools", "reads", "risks", "arguments", "budgets", "horizon", "trusted_values",
    "milestones", "expires", "ttl_s",
)  # fmt: skip
_READERS_DIFFER: Final = frozenset("?[]{}\\")
# "*" alone matches no target, since each has a "/".
_TARGETS: Final = re.compile(r"[^/]*\*\*.*|[^/]+/.+", re.DOTALL)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}", re.ASCII)
# Controls but tab and line break, overrides of direction, and tags, which spell text that nobody sees.
_TRICKS: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]"
)


def parse(
    raw: bytes | Mapping[str, Json],
    *,
    now_ns: int | None,
    ceiling: Ceiling | None = None,
    parent: Mandate | None = None,
) -> Mandate:
    """The mandate that ``raw`` says: JSON, or what YAML made of the same.

    ``now_ns`` is ``None`` where no session begins yet (a configuration that is read): then ``ttl_s`` has
    nothing to count from, and an expiry is not compared with the time.

    Under a ``parent``, what is left out is the parent's; under a ``ceiling``, missing budgets and the expiry
    are its own. Raises ``BadMandate`` with all that is wrong, also where it goes beyond either.
    """
    reading = _Reading()
    document = reading.document(raw)
    found = reading.mandate(document, now_ns) if document is not None else Mandate()
    if reading.faults:
        raise BadMandate(reading.faults)
    given = frozenset(document or ())
    asked = frozenset(found.budgets)
    if parent is not None:
        found = inherited(found, parent, given)
    if ceiling is not None:
        found = ceiling.completed(found, given, now_ns)
    found = _consistent(found, asked)
    faults = _contradictions(found)
    broad = ceiling is not None and ceiling.broad
    if not broad and parent is None:
        faults += _over_broad(found)
    if ceiling is not None:
        faults += above(found, ceiling, now_ns)
    if parent is not None:
        faults += within(found, parent)
    if faults:
        raise BadMandate(faults)
    return identified(found)


_PARTS: Final = (("writes", "calls"), ("irreversible", "writes"), ("irreversible", "calls"))
"""Budgets whose calls are counted in another budget too."""


def _consistent(mandate: Mandate, asked: Collection[str]) -> Mandate:
    """The mandate with budgets that it was given unasked brought down to those it asked for."""
    budgets = dict(mandate.budgets)
    for less, more in _PARTS:
        if less in budgets and more in budgets and less not in asked:
            budgets[less] = min(budgets[less], budgets[more])
    return msgspec.structs.replace(mandate, budgets=budgets)


def _contradictions(mandate: Mandate) -> list[Fault]:
    found: list[Fault] = []
    if not mandate.tools and mandate.reads != "any":
        found.append(Fault("/tools", "names no tool, so the mandate covers nothing", "name the tools"))
    if mandate.reads == "any" and "read" not in mandate.risks:
        found.append(
            Fault("/reads", "lets everything be read, and 'risks' no reading", "add 'read' to 'risks'")
        )
    budgets = mandate.budgets
    for less, more in _PARTS:
        if less in budgets and more in budgets and budgets[less] > budgets[more]:
            found.append(
                Fault(f"/budgets/{less}", f"is more than the budget of '{more}'", f"at most {budgets[more]}")
            )
    if mandate.reads != "any":
        found += [
            Fault(
                place("arguments", pattern),
                "bounds a tool that no pattern of 'tools' covers",
                "add it to 'tools'",
            )
            for pattern in mandate.arguments
            if not any(overlaps(pattern, tool) for tool in mandate.tools)
        ]
    return found


def _over_broad(mandate: Mandate) -> list[Fault]:
    return [
        Fault(f"/tools/{number}", "covers tools that nobody has named", "name upstreams, as in 'git/*'")
        for number, pattern in enumerate(mandate.tools)
        if "**" in pattern or not pattern.strip("*/")
    ]


class _Reading(Reading):
    """Reads the parts of a mandate."""

    def document(self, raw: bytes | Mapping[str, Json]) -> Mapping[str, Json] | None:
        try:
            if isinstance(raw, bytes):
                size = len(raw)
            else:
                size = len(orjson.dumps(raw))
                json.dumps(raw, allow_nan=False, default=str)  # where orjson writes null
        except (TypeError, ValueError):  # YAML knows values, keys and circles that JSON does not
            self.fault("", "holds what JSON cannot say", "write it as JSON")
            return None
        if size > MAX_BYTES:
            self.fault("", f"is {size:,} bytes", f"at most {MAX_BYTES:,}")
            return None
        try:
            document = strictjson.parse(raw) if isinstance(raw, bytes) else raw
        except Refused as error:
            self.fault("", error.reason.message.lower(), error.reason.remedy)
            return None
        if not isinstance(document, Mapping):
            self.fault("", "is not an object", "write an object with 'tools' and bounds")
            return None
        if strictjson.depth(document) > 16:
            self.fault("", "is nested too deeply", "at most 16 levels")
            return None
        return document

    def mandate(self, raw: Mapping[str, Json], now_ns: int | None) -> Mandate:
        self.unknown(raw, "", _KEYS)
        return Mandate(
            objective=self.objective(raw),
            request=self.request(raw),
            tools=self.each(raw, "tools", MAX_TOOLS, self.pattern),
            reads=self.reads(raw),
            risks=self.risks(raw),
            arguments=self.arguments(raw),
            budgets=self.budgets(raw),
            horizon=self.horizon(raw),
            trusted_values=self.each(raw, "trusted_values", MAX_TRUSTED, self.trusted),
            milestones=self.milestones(raw),
            expires_ns=self.expiry(raw, now_ns),
        )

    # -- its parts ------------------------------------------------------------------------------------

    def objective(self, raw: Mapping[str, Json]) -> str:
        return self.text(raw.get("objective", ""), "/objective", MAX_OBJECTIVE) or ""

    def request(self, raw: Mapping[str, Json]) -> str:
        value = raw.get("request", "")
        if not isinstance(value, str):
            self.fault("/request", "is not text", "write the user's own words")
        elif size_of(value) > MAX_REQUEST:
            self.fault("/request", f"is {size_of(value):,} bytes", f"at most {MAX_REQUEST:,}")
        elif _TRICKS.search(value):
            self.fault("/request", "has characters that hide text or turn it round", "leave them out")
        else:
            return value
        return ""

    def reads(self, raw: Mapping[str, Json]) -> Literal["listed", "any"]:
        value = raw.get("reads", "listed")
        if value not in ("listed", "any"):
            self.fault("/reads", "is neither 'listed' nor 'any'", "write one of them")
        return "any" if value == "any" else "listed"

    def risks(self, raw: Mapping[str, Json]) -> tuple[Risk, ...]:
        if "risks" not in raw:
            return RISKS
        given = self.each(raw, "risks", len(RISKS), self.risk)
        if not given and isinstance(raw["risks"], list | tuple):
            self.fault("/risks", "is empty, so the mandate covers nothing", f"some of {', '.join(RISKS)}")
        return tuple(risk for risk in RISKS if risk in given)

    def risk(self, value: Json, at: str) -> str | None:
        if value in RISKS:
            return str(value)
        self.fault(at, "is no class of risk", f"one of {', '.join(RISKS)}")
        return None

    def pattern(self, value: Json, at: str) -> str | None:
        text = self.text(value, at, MAX_NAME)
        if text is None:
            return None
        if strange := sorted(_READERS_DIFFER.intersection(text)):
            self.fault(at, f"has '{strange[0]}' in a pattern, where only '*' has a meaning", "leave it out")
        elif "***" in text:
            self.fault(at, "has three '*' in a row", "'*' stays within a name, '**' does not")
        elif not _TARGETS.fullmatch(text):
            self.fault(at, "is not 'upstream/name'", "write it as in 'git/*'")
        else:
            return text
        return None

    def arguments(self, raw: Mapping[str, Json]) -> dict[str, dict[str, Bounds]]:
        found: dict[str, dict[str, Bounds]] = {}
        count = 0
        for tool, pointers in self.object(raw, "arguments").items():
            at = place("arguments", tool)
            pattern = self.pattern(tool, at)
            if not isinstance(pointers, Mapping):
                self.fault(at, "is not an object of JSON pointers", 'write {"/amount": {"max": 100}}')
                continue
            bounds = {
                pointer: self.bounds(value, place("arguments", tool, pointer), pointer)
                for pointer, value in pointers.items()
            }
            count += len(bounds)
            if len(orjson.dumps(msgspec.to_builtins(bounds))) > MAX_TOOL_BOUNDS:
                self.fault(at, f"is more than {MAX_TOOL_BOUNDS:,} bytes", "use 'trusted_values'")
            if pattern is not None:
                found[pattern] = bounds
        if count > MAX_BOUNDS:
            self.fault("/arguments", f"has {count} bounds", f"at most {MAX_BOUNDS}")
        return found

    def bounds(self, raw: Json, at: str, pointer: str) -> Bounds:
        parts = pointer.split("/")
        if parts[0] or len(parts) < 2 or re.search(r"~(?![01])", pointer):
            self.fault(at, "is not a JSON pointer", "write it as in '/amount'")
        elif len(parts) - 1 > MAX_DEPTH or len(pointer) > MAX_NAME:
            self.fault(at, "reaches too deep into the arguments", f"at most {MAX_DEPTH} levels")
        if not isinstance(raw, Mapping):
            self.fault(at, "is not an object of bounds", f"some of {', '.join(WORDS)}")
            return Bounds()
        if not raw:
            self.fault(at, "bounds nothing", f"some of {', '.join(WORDS)}")
        self.unknown(raw, at, WORDS)
        least, most = self.number(raw, at, "min"), self.number(raw, at, "max")
        if least is not None and most is not None and least > most:
            self.fault(f"{at}/min", "is more than 'max', so no value fits", "swap them")
        flags = {word: self.flag(raw, at, word) for word in ("forbidden", "required")}
        if all(flags.values()):
            self.fault(at, "is both required and forbidden", "leave one of them out")
        length = self.integer(raw, "max_length", f"{at}/max_length", 0, MAX_BYTES)
        found = Bounds(
            min=least,
            max=most,
            one_of=self.one_of(raw, at),
            max_length=length,
            pattern=self.expression(raw, at),
            forbidden=flags["forbidden"],
            required=flags["required"],
        )
        numeric = least is not None or most is not None
        if numeric and (found.max_length is not None or found.pattern is not None):
            self.fault(at, "bounds a number and a text at once, so no value fits", "leave one of them out")
        return found

    def one_of(self, raw: Mapping[str, Json], at: str) -> tuple[Any, ...] | None:
        if "one_of" not in raw:
            return None
        where = f"{at}/one_of"
        found = self.each(raw, "one_of", MAX_BOUNDS, self.choice, where)
        if not raw["one_of"] and isinstance(raw["one_of"], list | tuple):
            self.fault(where, "is empty, so no value fits", 'list the values, or write {"forbidden": true}')
        return found

    def choice(self, value: Json, at: str) -> Any:
        if isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return self.number({"": value}, at, "", at)
        if isinstance(value, str):
            return self.text(value, at, MAX_TEXT, blank=True)
        self.fault(at, "is neither text, a number nor a boolean", "list single values")
        return None

    def expression(self, raw: Mapping[str, Json], at: str) -> str | None:
        value = raw.get("pattern")
        if "pattern" not in raw:
            return None
        where = f"{at}/pattern"
        if not isinstance(value, str) or not value or size_of(value) > MAX_TEXT:
            self.fault(where, f"is not a text of at most {MAX_TEXT} bytes", "write an RE2 expression")
            return None
        try:
            compiled(value)
        except ValueError as error:
            self.fault(where, f"is not RE2: {error}", "see https://github.com/google/re2/wiki/Syntax")
            return None
        return value

    def budgets(self, raw: Mapping[str, Json]) -> dict[str, int]:
        given = self.object(raw, "budgets")
        self.unknown(given, "/budgets", METRICS)
        found = {
            metric: self.integer(given, metric, f"/budgets/{metric}", 0, MAX_AMOUNT)
            for metric in METRICS
            if metric in given
        }
        return {metric: limit for metric, limit in found.items() if limit is not None}

    def horizon(self, raw: Mapping[str, Json]) -> Horizon:
        given = self.object(raw, "horizon")
        self.unknown(given, "/horizon", ("actions", "minutes"))
        return Horizon(
            actions=self.integer(given, "actions", "/horizon/actions", 1, 1_000_000),
            minutes=self.integer(given, "minutes", "/horizon/minutes", 1, 527_040),
        )

    def trusted(self, value: Json, at: str) -> str | None:
        return self.text(value, at, MAX_TEXT)

    def milestones(self, raw: Mapping[str, Json]) -> tuple[Milestone, ...]:
        found = self.each(raw, "milestones", MAX_MILESTONES, self.milestone)
        names = [milestone.name for milestone in found]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.fault("/milestones", f"has two milestones '{name}'", "give each a name of its own")
        return found

    def milestone(self, raw: Json, at: str) -> Milestone | None:
        if not isinstance(raw, Mapping):
            self.fault(at, "is not an object", 'write {"name": …, "verify": {…}}')
            return None
        self.unknown(raw, at, ("name", "verify"))
        name = raw.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            self.fault(f"{at}/name", "is no name", "lower-case letters, digits, '.', '_' and '-'")
            name = ""
        verify = self.object(raw, "verify", f"{at}/verify")
        self.unknown(verify, f"{at}/verify", ("tool", "arguments", "match"))
        tool = self.pattern(verify.get("tool"), f"{at}/verify/tool") or ""
        if "*" in tool:
            self.fault(f"{at}/verify/tool", "is a pattern", "name one tool that reads")
        match = self.object(verify, "match", f"{at}/verify/match")
        if not match:
            self.fault(f"{at}/verify/match", "says nothing, so nothing proves it", "name a value to find")
        for pointer, value in match.items():
            if not pointer.startswith("/"):
                self.fault(
                    f"{at}/verify/match", "has a key that is not a JSON pointer", "write it as in '/state'"
                )
            if isinstance(value, Mapping | list):
                self.fault(f"{at}/verify/match", "expects more than a single value", "name its parts")
        arguments = self.object(verify, "arguments", f"{at}/verify/arguments")
        return Milestone(name, Proof(tool, dict(match), dict(arguments)))

    def expiry(self, raw: Mapping[str, Json], now_ns: int | None) -> int | None:
        if "ttl_s" in raw and now_ns is None:
            self.fault("/ttl_s", "counts from when a session is opened", "give 'expires' here")
            return None
        if "ttl_s" in raw and now_ns is not None:
            ttl_s = self.integer(raw, "ttl_s", "/ttl_s", 1, MAX_TTL_S)
            if "expires" in raw:
                self.fault("/ttl_s", "stands beside 'expires'", "leave one of them out")
            return now_ns + ttl_s * 1_000_000_000 if ttl_s is not None else None
        if "expires" not in raw:
            return None
        value = raw["expires"]
        if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d", value):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                value = None
        if not isinstance(value, datetime) or value.tzinfo is None:
            self.fault("/expires", "is no time with its zone (RFC 3339)", "as in 2027-01-31T18:00:00Z")
            return None
        since = value.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
        expires_ns = since // timedelta(microseconds=1) * 1_000
        if now_ns is None:
            return expires_ns
        if expires_ns <= now_ns:
            self.fault("/expires", "is in the past", "a time to come, or 'ttl_s'")
        elif expires_ns > now_ns + MAX_TTL_S * 1_000_000_000:
            self.fault("/expires", "is more than a year away", "give a shorter mandate")
        return expires_ns
