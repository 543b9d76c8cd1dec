"""An incident as test cases: what was asked and decided, without what nobody needs to know.

Two cases are made of a session. One is a table for ``wardgate policy test``: each call with the facts it had,
and the verdict that came out, or that should have. The other is for the detectors: the order of events, with
prints replaced by small numbers. Both are plain YAML to be committed beside the policy.

Strings in arguments are replaced one after the other, each as far as the decision stays the same: by a
placeholder, else by letters and digits of the same shape, else not at all. What must stay and is marked
sensitive is not written: such a call is left out.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec
import orjson
import yaml

from gateway.breakers.breakers import Breakers
from gateway.breakers.event import Event, What, print_of, size_of
from gateway.breakers.settings import EXACT, Settings
from gateway.errors import ConfigError
from gateway.model import Call
from gateway.policy import cases as policy_cases
from gateway.policy.policy import EmbeddedPolicy, at_once
from gateway.recorded import Recorded

MOST_CASES: Final = 200
MOST_EVENTS: Final = 2_000
_LEAVES: Final = 100
_WORDS: Final = ("mandate.objective", "mandate.request")
_LOWER, _UPPER, _DIGITS = "abcdefghijkmnpqrstuvwxyz", "ABCDEFGHJKLMNPQRSTUVWXYZ", "23456789"

Path = tuple[str | int, ...]
Said = tuple[str, tuple[str, ...]]


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A table of cases as YAML, and what is not as somebody might expect."""

    text: str
    cases: int
    kept: tuple[str, ...] = ()  # pointers into arguments whose values the decision depends on
    left_out: Mapping[str, int] = {}  # why calls are not in it
    changed: int = 0  # calls that the policy of today decides otherwise


# -------------------------------------------------------------------------------------------- for policy


def policy_table(
    policy: EmbeddedPolicy, recorded: Iterable[Recorded], title: str, about: str, *,
    expect: str | None = None, keep: Sequence[str] = (), reveal: bool = False,
) -> Written:  # fmt: skip
    """The calls as a table. ``expect`` is what should have come out of each, such as ``deny code``."""
    masks = Masks()
    made: dict[bytes, dict[str, Any]] = {}
    kept: dict[str, None] = {}
    left_out: Counter[str] = Counter()
    changed = 0
    for each in recorded:
        if each.call is None:
            left_out[each.missing or "no_payload"] += 1
            continue
        if len(made) >= MOST_CASES:
            left_out["too_many"] += 1
            continue
        case = _case(each.call, each)
        now = said(policy, case)
        then = (each.said.verdict, tuple(sorted({finding.code for finding in each.said.findings})))
        changed += now != then
        if not reveal:
            needed = _redacted(policy, case, now, masks, keep)
            if any(_sensitive(pointer, each.sensitive) for pointer in needed):
                left_out["sensitive"] += 1
                continue
            kept |= dict.fromkeys(needed)
        case["expect"] = expect or " ".join((then[0], *then[1]))
        made.setdefault(orjson.dumps(case, option=orjson.OPT_SORT_KEYS), case)
    for number, case in enumerate(made.values(), 1):
        case["it"] = f"call {number}"
    table = {title: {"about": about, "cases": list(made.values())}}
    head = "# Written by 'wardgate incident export'; values the decision does not need are replaced.\n"
    text = head + yaml.safe_dump(table, sort_keys=False, allow_unicode=True, width=110)
    return Written(text=text, cases=len(made), kept=tuple(kept), left_out=dict(left_out), changed=changed)


def said(policy: EmbeddedPolicy, case: Mapping[str, Any]) -> Said:
    """What the policy says of a case: the verdict and its codes."""
    made = msgspec.convert({**case, "expect": "allow"}, policy_cases.Case)
    decision = at_once(policy.call(policy_cases.call_of(made), policy_cases.facts_of(made)))
    return decision.verdict, policy_cases.codes(decision.findings)


def _case(call: Call, recorded: Recorded) -> dict[str, Any]:
    who, tool = call.principal, call.tool
    manifest = tool.manifest
    facts = {**recorded.facts.slow, **recorded.facts.fast}
    if recorded.facts.provenance:
        facts["provenance"] = recorded.facts.provenance
    if not recorded.facts.addressed:
        facts["addressed"] = False
    session = facts.get("session")
    if isinstance(session, dict):
        facts["session"] = {**session, "id": "session"}
    agent = {"id": who.agent, "owner": who.owner, "tenant": who.tenant, "environment": who.environment}
    if who.subject is not None:
        agent["subject"] = who.subject
    case = {
        "it": "",
        "agent": {**agent, "chain": list(who.chain), "labels": list(who.labels)},
        "tool": {
            "target": tool.target, "kind": tool.kind, "risk": manifest.risk,
            "effects": list(manifest.effects), "domain": manifest.domain, "idempotent": manifest.idempotent,
            "cost_micro_usd": manifest.cost_micro_usd, "integrity": manifest.integrity,
            "confidentiality": manifest.confidentiality, "polling": manifest.polling,
            "source": manifest.source, "sensitive": list(manifest.sensitive), "extra": dict(manifest.extra),
        },
        "args": call.args, "facts": facts, "stale": list(recorded.facts.stale), "time": call.received_ns,
        "surface": call.surface,
    }  # fmt: skip
    plain: dict[str, Any] = orjson.loads(orjson.dumps(case))  # a copy of its own, of plain values only
    return {name: value for name, value in plain.items() if value not in ({}, [])}


# --------------------------------------------------------------------------------------------- redaction


class Masks:
    """Replacements that are the same for the same text, in one export and in no other."""

    def __init__(self) -> None:
        self._salt = secrets.token_bytes(16)
        self._names: dict[str, str] = {}

    def placeholder(self, text: str) -> str:
        return self._names.setdefault(text, f"redacted-{len(self._names) + 1}")

    def shape(self, text: str) -> str:
        """Other letters and digits in the same places: what looks like a key or an address still does.

        The first four characters of a long word stay: they say which kind of key it is, and nothing else.
        """
        stream = blake2b(text.encode(), key=self._salt).digest()
        found: list[str] = []
        run = 0
        for at, each in enumerate(text):
            run = run + 1 if each.isalnum() else 0
            drawn = stream[at % len(stream)] + at
            if not each.isalnum() or (run <= 4 and _word(text, at - run + 1) >= 16):
                found.append(each)
            elif each.isdigit():
                found.append(_DIGITS[drawn % len(_DIGITS)])
            else:
                letters = _UPPER if each.isupper() else _LOWER
                found.append(letters[drawn % len(letters)])
        return "".join(found)


def _word(text: str, start: int) -> int:
    end = start
    while end < len(text) and text[end].isalnum():
        end += 1
    return end - start


def _redacted(
    policy: EmbeddedPolicy, case: dict[str, Any], wanted: Said, masks: Masks, keep: Sequence[str]
) -> list[str]:
    """Replace what can be replaced, in place; the pointers of what could not be."""
    needed: list[str] = []
    for number, path in enumerate(_private(case)):
        pointer = "/" + "/".join(str(part) for part in path[1:])
        inside = path[0] == "args"
        if inside and any(pointer == each or pointer.startswith(each + "/") for each in keep):
            continue
        text = _at(case, path)
        if number >= _LEAVES:  # that many are not tried one by one
            _put(case, path, masks.placeholder(text))
            if said(policy, case) != wanted:
                raise ConfigError("the decision depends on one of very many values; use --reveal or --keep")
            continue
        for replaced in (masks.placeholder(text), masks.shape(text)):
            _put(case, path, replaced)
            if said(policy, case) == wanted:
                break
        else:
            _put(case, path, text)
            if inside:
                needed.append(pointer)
    return needed


def _private(case: Mapping[str, Any]) -> Iterator[Path]:
    """Where words of people stand: all strings of the arguments, the user, the owner, the objective."""
    yield from _strings(case.get("args", {}), ("args",))
    for name in ("subject", "owner"):
        if case["agent"].get(name):
            yield "agent", name
    facts = case.get("facts", {})
    for where in _WORDS:
        one, two = where.split(".")
        if isinstance(facts.get(one), dict) and isinstance(facts[one].get(two), str):
            yield "facts", one, two


def _strings(value: Any, path: Path) -> Iterator[Path]:
    if isinstance(value, str):
        if value:
            yield path
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _strings(inner, (*path, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _strings(inner, (*path, number))


def _at(value: Any, path: Path) -> Any:
    for part in path:
        value = value[part]
    return value


def _put(value: Any, path: Path, new: str) -> None:
    _at(value, path[:-1])[path[-1]] = new


def _sensitive(pointer: str, marked: Sequence[str]) -> bool:
    return any(pointer == each or pointer.startswith(each + "/") for each in marked)


# ------------------------------------------------------------------------------------------ for detectors


class Expected(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first move that must follow, and after which event."""

    detector: str
    after: str
    event: int  # from 1


class One(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An event without ids, names of people or content: equal numbers stand for equal content."""

    at_ms: int
    tool: str
    what: What = "ok"
    args: int = 0
    result: int = 0
    size: int = 0  # of the result
    thread: int = 0
    domain: str = "general"
    writes: bool = False
    irreversible: bool = False
    polling: bool = False
    tainted: bool = False
    bytes_out: int = 0
    cost: int = 0
    places: tuple[int, ...] = ()
    resource: int = 0
    depth: int = 0


class Course(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The order of events of one incident, and what a detector says of it."""

    about: str
    expect: Expected | None = None  # None: nothing may trip
    events: tuple[One, ...]


def course(events: Sequence[Event], about: str, settings: Settings) -> Course:
    """The events of one session as they may be told, and the first move the exact detectors make of them."""
    numbers: dict[str, dict[Any, int]] = {}

    def number(kind: str, value: Any) -> int:
        known = numbers.setdefault(kind, {})
        return known.setdefault(value, len(known) + 1) if value else 0

    start = events[0].at_ns if events else 0
    told = tuple(
        One(
            at_ms=(each.at_ns - start) // 1_000_000, tool=each.tool, what=each.what,
            args=number("args", each.args), result=number("result", each.result),
            size=size_of(each.result), thread=number("thread", each.thread),
            domain=each.domain, writes=each.writes, irreversible=each.irreversible, polling=each.polling,
            tainted=each.tainted, bytes_out=each.bytes_out, cost=each.cost,
            places=tuple(number("place", place) for place in each.places),
            resource=number("resource", each.resource), depth=each.depth,
        )
        for each in events[-MOST_EVENTS:]
    )  # fmt: skip
    made = Course(about=about, events=told)
    return msgspec.structs.replace(made, expect=first_move(made, settings))


def first_move(told: Course, settings: Settings) -> Expected | None:
    """Let the exact detectors look at the events, from nothing: the first move they make.

    What estimates needs to know what is usual for an agent, and one session does not tell.
    """
    breakers = Breakers(settings)
    for number, each in enumerate(told.events, 1):
        event = Event(
            call_id=f"event-{number}", at_ns=1_000_000_000 + each.at_ms * 1_000_000, tenant="t",
            agent="agent", session="session", tool=each.tool, what=each.what, domain=each.domain,
            thread=f"thread-{each.thread}" if each.thread else "", upstream=each.tool.split("/")[0],
            depth=each.depth, args=each.args, result=each.result << 32 | each.size if each.result else 0,
            writes=each.writes, irreversible=each.irreversible, polling=each.polling,
            bytes_out=each.bytes_out, cost=each.cost, places=each.places, resource=each.resource,
            tainted=each.tainted,
        )  # fmt: skip
        for trip in breakers.observe(event):
            if trip.detector in EXACT and not trip.observed:
                return Expected(detector=trip.detector, after=trip.after, event=number)
    return None


def as_yaml(told: Course) -> str:
    head = "# Written by 'wardgate incident export'; run it with 'wardgate incident test'.\n"
    return head + yaml.safe_dump(msgspec.to_builtins(told), sort_keys=False, width=110)


def read_course(text: str) -> Course:
    """Raises ``ConfigError`` with what is wrong."""
    try:
        return msgspec.convert(yaml.safe_load(text), Course)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ConfigError(str(error)) from error


def whole(event: Event, recorded: Recorded | None, places: Callable[[bytes], tuple[int, ...]]) -> Event:
    """An event of the journal with what only the payload tells."""
    if recorded is None or recorded.call is None:
        return event
    call, outcome = recorded.call, recorded.outcome
    manifest = call.tool.manifest
    content = (outcome.result_json or outcome.error_json) if outcome is not None else b""
    session = recorded.facts.fast.get("session")
    return msgspec.structs.replace(
        event, domain=manifest.domain, polling=manifest.polling, args=print_of(call.args_json),
        result=print_of(content) if content else 0, places=places(call.args_json),
        resource=print_of(call.effect_key.encode()) if manifest.effect_key is not None else 0,
        tainted=isinstance(session, dict) and session.get("integrity") == "untrusted",
    )  # fmt: skip
