"""What a ``monitors/*.yaml`` file may say.

A monitor is one of nine templates; ``templates.py`` gives each as a formula, ``reading.py`` refuses what
cannot be meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
import orjson

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


def only_labels(matcher: Matcher) -> bool:
    """Whether a matcher is about the session alone, and not about a call."""
    return matcher.labels is not None and all(
        getattr(matcher, name) is None for name in matcher.__struct_fields__ if name not in ("labels", "by")
    )


def canonical(value: Any) -> bytes:
    """JSON of (parts of) a definition in one form, for hashes and comparison."""
    return orjson.dumps(msgspec.to_builtins(value), option=orjson.OPT_SORT_KEYS)
