"""Does a call match, and which key is it about: matchers compiled, and split in what depends on the tool
alone (answered once per tool, see ``Monitors``) and what depends on the call.

Where a matcher restricts (it counts or arms), what cannot be read counts as a match; where it permits, it
does not. So an argument of an unexpected shape never helps an agent.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Callable, Mapping
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final
from unicodedata import normalize

import msgspec
import re2

from gateway import strictjson
from gateway.model import Json
from gateway.sessions.monitors.definitions import Argument, Matcher, Role

NO_EFFECT: Final = frozenset({"failed", "not_sent"})
"""How calls end that are proven not to have reached the upstream: they count for nothing."""

_ABSENT: Final = object()
_PLAIN: Final = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,9})?")
_NO_LETTERS: Final = {code: None for code in range(128) if not chr(code).isalnum()}
_LONG: Final = 4096  # characters of a key beyond which spellings are not looked at
_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 8 << 20
Parts = tuple[str, ...]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A call as monitors see it. ``status`` is "" while it is judged. ``labels`` are the session's: before
    the call where it is judged, after it where it is committed."""

    at_ns: int
    target: str
    risk: str = "irreversible"
    effects: tuple[str, ...] = ()
    domain: str = "general"
    args: Mapping[str, Json] = {}
    status: str = ""
    labels: tuple[str, ...] = ()
    actor: str = ""
    call_id: str = ""
    # What matchers found to be keys of these very arguments, by pointers and whether exact: monitors about
    # one argument, and the judging and the counting of one call, read and hash it once.
    keys: dict[Any, str | None] = {}


class Compiled(msgspec.Struct, frozen=True):
    """One matcher of one monitor. ``bit`` says which."""

    bit: int
    matcher: Matcher
    loose: bool
    tools: Any
    status: frozenset[str] | None
    labels: frozenset[str] | None
    actors: frozenset[str] | None
    arguments: tuple[tuple[Parts, Callable[[Any], bool]], ...]
    by: tuple[Parts, ...]
    exact: bool

    def may(self, target: str, risk: str, effects: tuple[str, ...], domain: str) -> bool:
        """Whether calls of a tool can match at all."""
        wanted = self.matcher
        if wanted.risks is not None and risk not in wanted.risks:
            return False
        if wanted.effects is not None and not any(effect in wanted.effects for effect in effects):
            return False
        if wanted.domains is not None and domain not in wanted.domains:
            return False
        return self.tools is None or self.tools.fullmatch(target) is not None

    def holds(self, event: Event) -> bool:
        """What ``may`` leaves open."""
        if self.labels is not None and self.labels.isdisjoint(event.labels):
            return False
        if self.actors is not None and event.actor not in self.actors and (event.actor or not self.loose):
            return False
        for parts, test in self.arguments:
            value = get(event.args, parts)
            if value is _ABSENT or not test(value):
                return False
        if event.status:
            if self.status is not None:
                return event.status in self.status
            return event.status not in NO_EFFECT
        # A call under way may still fail, so it is not yet what makes another one right.
        return self.loose

    def key(self, event: Event) -> str | None:
        """What the call is about; "" where nothing is told apart, ``None`` where it cannot be read."""
        if not self.by:
            return ""
        where = self.by, self.exact
        try:
            return event.keys[where]
        except KeyError:
            found = event.keys[where] = self._key(event.args)
            return found

    def _key(self, args: Mapping[str, Json]) -> str | None:
        values = []
        for parts in self.by:
            value = get(args, parts)
            if value is _ABSENT or value is None:
                return None
            values.append(_same(value) if self.exact else _folded(value))
        digest = blake2b(strictjson.canonical(values), digest_size=12).digest()
        return b2a_base64(digest, newline=False).decode()


def compiled(bit: int, matcher: Matcher, role: Role, by: tuple[str, ...] | None, *, exact: bool) -> Compiled:
    """``exact``: whether another spelling of a key is another key; see ``_folded``."""
    loose = role != "permits"
    status = frozenset(matcher.status) if matcher.status is not None else None
    if role == "permits" and status is None:
        status = frozenset({"ok"})  # a read that failed is no read
    return Compiled(
        bit=bit,
        matcher=matcher,
        loose=loose,
        tools=_globs(matcher.tools),
        status=status,
        labels=frozenset(matcher.labels) if matcher.labels is not None else None,
        actors=frozenset(matcher.actors) if matcher.actors is not None else None,
        arguments=tuple(
            (split(pointer), _test(argument, loose))
            for pointer, argument in (matcher.arguments or {}).items()
        ),
        by=tuple(split(pointer) for pointer in (matcher.by or by or ())),
        exact=exact,
    )


def split(pointer: str) -> Parts:
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])


def get(value: Any, parts: Parts) -> Any:
    """The value a pointer leads to, or ``_ABSENT``."""
    for part in parts:
        if isinstance(value, Mapping):
            if part not in value:
                return _ABSENT
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and len(part) < 9 and int(part) < len(value):
            value = value[int(part)]
        else:
            return _ABSENT
    return value


def absent(value: Any) -> bool:
    return value is _ABSENT


def _globs(patterns: tuple[str, ...] | None) -> Any:
    """The patterns as one RE2 expression, ``None`` when they leave nothing out."""
    if patterns is None or "*" in patterns:
        return None
    return regex("(?s)" + "|".join(_glob(pattern) for pattern in patterns))


def _glob(pattern: str) -> str:
    upstream, _, name = pattern.partition("/")
    # A name may itself have a '/': what a pattern covers to its end should not be left by one.
    rest = ".*" if name.endswith("*") else ""
    name = name.removesuffix("*") if rest else name
    found = "/".join("[^/]*".join(map(re.escape, part.split("*"))) for part in (upstream, name))
    return f"{found}{rest}"


def _test(argument: Argument, loose: bool) -> Callable[[Any], bool]:
    if argument.matches is not None:
        search = regex(argument.matches).search
        return lambda value: search(value) is not None if isinstance(value, str) else loose
    wanted = argument.one_of if argument.one_of is not None else (argument.equals,)
    values = frozenset(_scalar(value) for value in wanted)
    return lambda value: loose if isinstance(value, dict | list) else _scalar(value) in values


def _scalar(value: Any) -> tuple[str, Any]:
    """``true`` is not 1, and 1.0 is 1."""
    kind = "n" if value.__class__ in (int, float) else value.__class__.__name__
    return kind, value


def _same(value: Any) -> Any:
    """A whole number is the same key however it is written: 7.0 is no way around what 7 has used."""
    if value.__class__ is float and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def _folded(value: Any) -> str:
    """The letters and digits of a key, in one case: 'DE89 3704' is no way around what 'de893704' has used.

    Two keys that are taken for one are refused too early, which is the right side to err on where a call is
    counted; where a call makes another one right, keys are exact.
    """
    text = value if isinstance(value, str) else strictjson.canonical(_same(value)).decode()
    if text.isascii():
        return text.lower().translate(_NO_LETTERS)
    if len(text) > _LONG:
        return text
    return "".join(filter(str.isalnum, normalize("NFKC", text).casefold()))


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
