"""What a ``monitors/*.yaml`` file may say, and what is refused.

A definition names one of nine templates (``templates.py`` gives each as a formula). Unknown keys, conditions
that can never hold or always hold, and tables without a bound are refused: a monitor that silently never
speaks is a protection that is not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

import msgspec
import orjson
import re2

from gateway.errors import ConfigError
from gateway.model import Risk, Status

MAX_MONITORS: Final = 64
MAX_KEYS: Final = 256
DEFAULT_KEYS: Final = 64
MAX_WINDOW_S: Final = 31 * 86_400
MAX_TIMES: Final = 64
MAX_AMOUNT: Final = 2**62  # in the smallest unit: what stands in a journal and a snapshot is a 64-bit integer

TEMPLATES: Final = (
    "must_precede", "at_most_n", "at_most_total", "never_after", "cannot_follow_without",
    "mutually_exclusive", "rate_limit", "separation_of_actors", "within",
)  # fmt: skip

OnViolation = Literal["deny", "escalate", "warn", "nothing"]

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Pointer = Annotated[str, msgspec.Meta(pattern=r"^(/([^~/]|~[01])*)+$", max_length=200)]
Pointers = Annotated[tuple[Pointer, ...], msgspec.Meta(min_length=1, max_length=4)]
Words = Annotated[tuple[Word, ...], msgspec.Meta(min_length=1, max_length=64)]
Keys = Annotated[int, msgspec.Meta(ge=1, le=MAX_KEYS)]
Window = Annotated[int, msgspec.Meta(ge=1, le=MAX_WINDOW_S)]
Scalar = str | int | float | bool | None

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_PLAIN: Final = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")
_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 8 << 20


class Unusable(ConfigError):
    """A definition that is refused: ``path`` leads to it in its file, the message says what to do."""

    def __init__(self, path: tuple[str, ...], said: str) -> None:
        super().__init__(f"{'.'.join(path)}: {said}" if path else said)
        self.path = path
        self.said = said


class Argument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A condition on one argument; exactly one of them."""

    equals: Scalar | msgspec.UnsetType = msgspec.UNSET
    one_of: Annotated[tuple[Scalar, ...], msgspec.Meta(min_length=1, max_length=64)] | None = None
    matches: Word | None = None  # RE2, found anywhere in the text


class Matcher(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which calls are meant. Each given member must hold; of a list, one entry.

    ``tools``: ``upstream/name``, in which ``*`` stands for any run of characters but '/', and at the end for
    the rest of the name. ``effects``: the tool has any of them. ``status``: how the call ended. ``labels``:
    the session has any of them. ``arguments``: by JSON pointer. ``by``: other pointers to the same key, where
    a tool names the argument otherwise.
    """

    tools: Words | None = None
    risks: Annotated[tuple[Risk, ...], msgspec.Meta(min_length=1)] | None = None
    effects: Words | None = None
    domains: Words | None = None
    status: Annotated[tuple[Status, ...], msgspec.Meta(min_length=1)] | None = None
    labels: Words | None = None
    actors: Words | None = None
    arguments: Annotated[dict[Pointer, Argument], msgspec.Meta(min_length=1, max_length=16)] | None = None
    by: Pointers | None = None


class Template(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What every template has. ``by``: counted or remembered apart for each value of these arguments.

    ``keys``: how many values of ``by`` are told apart in one session; what happens beyond is never in favour
    of the agent.
    """

    by: Pointers | None = None
    keys: Keys | None = None


class MustPrecede(Template, frozen=True, kw_only=True):
    """``then`` only after ``first`` has succeeded."""

    first: Matcher
    then: Matcher


class AtMostN(Template, frozen=True, kw_only=True):
    """At most ``n`` calls, ever in the session or in any ``within_s`` seconds."""

    match: Matcher
    n: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    within_s: Window | None = None


class AtMostTotal(Template, frozen=True, kw_only=True):
    """The sum of an argument stays at most ``limit``; ``decimals``: digits after the point that count."""

    match: Matcher
    amount: Pointer
    limit: Annotated[int, msgspec.Meta(ge=1, le=10**15)] | Annotated[float, msgspec.Meta(gt=0, le=1e15)]
    decimals: Annotated[int, msgspec.Meta(ge=0, le=6)] = 2
    within_s: Window | None = None


class NeverAfter(Template, frozen=True, kw_only=True):
    """Once ``after`` has happened, ``match`` never again."""

    after: Matcher
    match: Matcher


class CannotFollowWithout(Template, frozen=True, kw_only=True):
    """After ``after``, ``match`` only once ``unless`` has succeeded in between."""

    after: Matcher
    match: Matcher
    unless: Matcher


class MutuallyExclusive(Template, frozen=True, kw_only=True):
    """Calls of one of the ``sets`` rule out calls of the others."""

    sets: Annotated[tuple[Matcher, ...], msgspec.Meta(min_length=2, max_length=8)]


class RateLimit(Template, frozen=True, kw_only=True):
    """At most ``n`` calls in ``per_s`` seconds, counted in twelfths of them."""

    match: Matcher
    n: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    per_s: Window


class SeparationOfActors(Template, frozen=True, kw_only=True):
    """Whoever did ``first`` may not do ``then``."""

    first: Matcher
    then: Matcher


class Within(Template, frozen=True, kw_only=True):
    """``then`` only within so many calls or seconds after ``first`` has succeeded."""

    first: Matcher
    then: Matcher
    calls: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    seconds: Window | None = None


class Definition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One monitor: exactly one template, and what a violation means to the shipped rule."""

    about: Text = ""
    on_violation: OnViolation = "deny"
    message: Text = ""  # told to the agent; by default a sentence made of the template
    remedy: Text = ""  # what would be accepted instead
    chain: Name = "default"  # of approvals, where a violation escalates
    must_precede: MustPrecede | None = None
    at_most_n: AtMostN | None = None
    at_most_total: AtMostTotal | None = None
    never_after: NeverAfter | None = None
    cannot_follow_without: CannotFollowWithout | None = None
    mutually_exclusive: MutuallyExclusive | None = None
    rate_limit: RateLimit | None = None
    separation_of_actors: SeparationOfActors | None = None
    within: Within | None = None

    @property
    def template(self) -> str:
        return next(name for name in TEMPLATES if getattr(self, name) is not None)

    @property
    def body(self) -> Template:
        found: Template = getattr(self, self.template)
        return found


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of monitors."""

    monitors: dict[Name, Definition]


def read(value: Any) -> dict[str, Definition]:
    """The definitions in the content of one file; raises ``Unusable`` with the path that is wrong."""
    if not isinstance(value, Mapping) or not isinstance(value.get("monitors"), Mapping):
        raise Unusable((), "a file of monitors is a mapping 'monitors:' from names to definitions")
    for key in value:
        if key != "monitors":
            raise Unusable((str(key),), "unknown key; only 'monitors' stands at the top")
    found: dict[str, Definition] = {}
    for name, said in value["monitors"].items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            wrong = "a name is made of a-z, 0-9, '.', '_' and '-', and begins with a letter or digit"
            raise Unusable(("monitors", str(name)), wrong)
        found[name] = _definition(("monitors", name), said)
    return found


def schema() -> dict[str, Any]:
    """JSON Schema of a file, for editors."""
    found = msgspec.json.schema(File)
    for each in found["$defs"].values():
        each["description"] = " ".join(each["description"].replace("``", "").split())
        for name, member in each["properties"].items():
            if member.get("default", "") is None:  # absent is what null means here
                kept = [one for one in member["anyOf"] if one != {"type": "null"}]
                each["properties"][name] = kept[0] if len(kept) == 1 else {"anyOf": kept}
    found["$defs"]["Definition"]["oneOf"] = [{"required": [name]} for name in TEMPLATES]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "wardgate monitors"}
    return {**head, **found}


def _definition(path: tuple[str, ...], said: Any) -> Definition:
    try:
        found = msgspec.convert(said, Definition, strict=True)
    except msgspec.ValidationError as error:
        reason, _, at = str(error).partition(" - at `")
        below = tuple(part for part in re.split(r"[.\[\]]", at.rstrip("`").removeprefix("$")) if part)
        raise Unusable((*path, *below), f"{reason}{_known(below)}") from error
    given = [name for name in TEMPLATES if getattr(found, name) is not None]
    if len(given) != 1:
        raise Unusable(path, f"names {len(given) or 'no'} templates; name one of {', '.join(TEMPLATES)}")
    if found.on_violation != "escalate" and isinstance(said, Mapping) and "chain" in said:
        raise Unusable((*path, "chain"), "only a monitor with 'on_violation: escalate' asks a chain")
    for where, wrong in _wrong(found.template, found.body):
        raise Unusable((*path, found.template, *where), wrong)
    return found


def _known(below: tuple[str, ...]) -> str:
    """What may stand there, where a name is not known."""
    if not below:
        return f"; there are about, on_violation, message, remedy, chain and one of {', '.join(TEMPLATES)}"
    return "; see docs/reference/monitors.md"


Wrong = tuple[tuple[str, ...], str]
Role = Literal["permits", "arms", "judged", "counted"]
"""``permits``: what makes a later call right. ``arms``: what makes one wrong. ``judged``: the call that is
right or wrong. ``counted``: both at once."""

_ROLES: Final[Mapping[str, Role]] = {
    "first": "permits", "unless": "permits", "after": "arms", "match": "judged", "then": "judged",
}  # fmt: skip


def matchers(template: str, body: Template) -> Iterator[tuple[tuple[str, ...], Matcher, Role]]:
    """Each matcher of a template with its path and what it is for, in the order of its fields."""
    if isinstance(body, MutuallyExclusive):
        for number, matcher in enumerate(body.sets):
            yield ("sets", str(number)), matcher, "counted"
        return
    for name in body.__struct_fields__:
        matcher = getattr(body, name)
        if isinstance(matcher, Matcher):
            role = _ROLES[name]
            if template in ("at_most_n", "at_most_total", "rate_limit"):
                role = "counted"
            if template == "separation_of_actors" and name == "first":
                role = "arms"
            yield (name,), matcher, role


def _wrong(template: str, body: Template) -> Iterator[Wrong]:
    for where, matcher, role in matchers(template, body):
        for at, said in _wrong_matcher(matcher, body, role):
            yield (*where, *at), said
    if body.keys is not None and body.by is None:
        yield ("keys",), "there is nothing to tell apart: give 'by', or leave 'keys' out"
    if body.by is not None and len(set(body.by)) != len(body.by):
        yield ("by",), "names the same argument twice"
    yield from _impossible(body)


def _wrong_matcher(matcher: Matcher, body: Template, role: Role) -> Iterator[Wrong]:
    if not any(getattr(matcher, name) for name in matcher.__struct_fields__ if name != "by"):
        yield (), "matches every call; write tools: ['*'] if that is meant"
    for pattern in matcher.tools or ():
        if pattern != "*" and pattern.count("/") == 0:
            yield ("tools",), f"'{pattern}' must be 'upstream/name', as in 'git/*', or '*'"
    if matcher.status is not None and role == "judged":
        yield ("status",), "how a call ends is not known when it is judged; leave 'status' out here"
    for pointer, argument in (matcher.arguments or {}).items():
        given = (
            argument.equals is not msgspec.UNSET,
            argument.one_of is not None,
            argument.matches is not None,
        )
        if sum(given) != 1:
            yield ("arguments", pointer), "give one of 'equals', 'one_of' and 'matches'"
        if argument.matches is not None:
            try:
                regex(argument.matches)
            except ValueError as error:
                yield ("arguments", pointer, "matches"), str(error)
    if matcher.by is not None and (body.by is None or len(matcher.by) != len(body.by)):
        yield ("by",), "names as many arguments as the monitor's own 'by', in the same order"


def _impossible(body: Template) -> Iterator[Wrong]:
    """Definitions under which the call that is meant is always wrong, or never."""
    if isinstance(body, MustPrecede | Within) and body.first == body.then:
        yield (), "'first' and 'then' are the same calls, so none could ever be the first"
    if isinstance(body, Within) and body.calls is None and body.seconds is None:
        yield (), "give 'calls', 'seconds' or both"
    if isinstance(body, CannotFollowWithout) and body.unless in (body.after, body.match):
        yield ("unless",), "is the same as 'after' or 'match', so it could never help"
    if isinstance(body, MutuallyExclusive) and len({canonical(each) for each in body.sets}) < len(body.sets):
        yield ("sets",), "two sets are the same calls, which would rule themselves out"
    if isinstance(body, CannotFollowWithout) and body.after.labels is not None:
        yield ("after", "labels"), "a label stays, so 'unless' could never help; use 'never_after'"
    if isinstance(body, NeverAfter) and body.by is not None and only_labels(body.after):
        yield ("by",), "a label is of the session, not of a key; leave 'by' out"
    if isinstance(body, AtMostN) and body.within_s is not None and body.n > MAX_TIMES:
        yield ("n",), f"more than {MAX_TIMES} within a time are counted by 'rate_limit'"
    if isinstance(body, AtMostTotal):
        limit = scaled(body.limit, body.decimals)
        if limit is None or limit > MAX_AMOUNT:
            yield (
                ("limit",),
                f"is no number of {body.decimals} decimals up to {MAX_AMOUNT // 10**body.decimals}",
            )


def scaled(value: object, decimals: int) -> int | None:
    """A number as a whole number of its smallest unit; ``None`` when it cannot be that.

    Numbers in a text are read too, if they are plain. A float is what its shortest decimal form says.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        unit: int = 10**decimals
        return value * unit
    if isinstance(value, float) or (isinstance(value, str) and _PLAIN.fullmatch(value)):
        try:
            exact = Decimal(str(value)).scaleb(decimals)
            whole = int(exact)
        except (ArithmeticError, ValueError):
            return None
        return whole if whole == exact else None
    return None


def regex(pattern: str) -> Any:
    """The compiled RE2 expression; ``ValueError`` when it is none."""
    try:
        return re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        said = error.args[0] if error.args else "invalid"
        said = said.decode(errors="replace") if isinstance(said, bytes) else said
        raise ValueError(f"not an RE2 expression: {said}") from error


def canonical(value: Any) -> bytes:
    """JSON of (parts of) a definition in one form, for hashes and comparison."""
    return orjson.dumps(msgspec.to_builtins(value), option=orjson.OPT_SORT_KEYS)


def only_labels(matcher: Matcher) -> bool:
    """Whether a matcher is about the session alone, and not about a call."""
    return matcher.labels is not None and all(
        getattr(matcher, name) is None for name in matcher.__struct_fields__ if name not in ("labels", "by")
    )


def in_words(template: str, body: Template) -> str:
    """What a monitor demands, for the agent, where its definition has no message of its own."""
    apart = f" (for each {', '.join(body.by)})" if body.by else ""
    said = _SENTENCES[template].format(
        **{
            name: _some(value)
            for name in body.__struct_fields__
            if (value := getattr(body, name)) is not None
        }
    )
    if isinstance(body, AtMostN | AtMostTotal) and body.within_s is not None:
        said += f" within {body.within_s} s"
    if isinstance(body, Within):
        said += " and ".join(
            f" {value} {unit}" for value, unit in ((body.calls, "calls"), (body.seconds, "s")) if value
        )
    return said + apart


_SENTENCES: Final = {
    "must_precede": "first {first} must have succeeded",
    "at_most_n": "at most {n} calls of {match}",
    "at_most_total": "the sum of {amount} of {match} may be at most {limit}",
    "never_after": "{match} is not allowed any more after {after}",
    "cannot_follow_without": "after {after}, {match} needs {unless} first",
    "mutually_exclusive": "{sets} rule each other out",
    "rate_limit": "at most {n} calls of {match} in {per_s} s",
    "separation_of_actors": "whoever did {first} may not do {then}",
    "within": "{then} is only allowed after {first}, within",
}


def _some(value: Any) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], Matcher):
        return " and ".join(_some(each) for each in value)
    if not isinstance(value, Matcher):
        return str(value)
    parts = [", ".join(value.tools)] if value.tools else []
    for name in ("risks", "effects", "domains", "labels", "actors", "status"):
        given = getattr(value, name)
        if given:
            parts.append(f"{name} {', '.join(given)}")
    if value.arguments:
        parts.append(f"certain {', '.join(value.arguments)}")
    said = " with ".join(parts)
    return said if len(said) <= 80 else f"{said[:79]}…"
