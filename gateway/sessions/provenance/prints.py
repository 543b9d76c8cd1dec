"""What one session knows of values, and where a value came from.

    learn_request   the user's words, kept as text                    source ``user``
    trust           values of the mandate                             source ``mandate``
    apply           prints of a result                                source ``trusted`` or ``untrusted``

A fold: the same steps give the same state in any process, and ``decode(encode(p))`` behaves like ``p``. It is
at most 40 KB however long the session runs. What is full fails closed: more trusted values are not trusted,
more untrusted prints share bits until every value that is not trusted reads ``untrusted``.

Order does not matter to ``source`` as long as nothing is full; it may to ``targets``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, Self

import msgspec
import orjson

from gateway.model import Json
from gateway.sessions.provenance import seen, words
from gateway.sessions.provenance.harvests import Harvest
from gateway.sessions.provenance.known import FIRST_TARGET, Known, Match
from gateway.sessions.provenance.lists import Kind
from gateway.sessions.provenance.seen import NOWHERE, Seen

Source = Literal["user", "mandate", "trusted", "untrusted", "none"]

MAX_TARGETS: Final = 32
MAX_ELEMENTS: Final = 256  # of a list that is traced
_NAME: Final = 96  # characters of a target

_WORST: Final[Sequence[Source]] = ("user", "mandate", "trusted", "none", "untrusted")
_VOUCHING: Final[Sequence[Source]] = ("user", "mandate", "trusted")  # by origin
_LOOSEST: Final[Sequence[Match]] = ("exact", "substring", "derived", "none")


class Traced(msgspec.Struct, frozen=True):
    """Where a value came from; at most three targets, those that vouch for it first."""

    source: Source
    match: Match
    targets: tuple[str, ...] = ()

    @property
    def trusted(self) -> bool:
        return self.source in ("user", "mandate", "trusted")


_UNKNOWN: Final = Traced("none", "none")


class Prints:
    """``key`` is the session's, the one given to ``harvest``."""

    __slots__ = ("_known", "_seen", "_targets")

    def __init__(self, key: bytes = b"") -> None:
        self._known = Known(key)
        self._seen = Seen()
        self._targets: list[str] = []

    # ------------------------------------------------------------------------------------ learning

    def learn_request(self, text: str) -> bool:
        """Take in the user's own words. ``False``: there was no room for all; the rest is not trusted."""
        return self._known.learn_request(text)

    def trust(self, values: Iterable[str]) -> bool:
        """Take in the mandate's trusted values, each as a whole. ``False``: there was no room for all."""
        return self._known.trust(values)

    def apply(self, harvest: Harvest) -> None:
        """Fold in one result."""
        if not (harvest.trusted or harvest.untrusted or harvest.bitmap or harvest.flood):
            return
        target = self._target(harvest.target)
        if harvest.trusted:
            self._known.learn_all(harvest.trusted, min(target + FIRST_TARGET, NOWHERE))
        if harvest.untrusted:
            self._seen.add(harvest.untrusted, target)
        if harvest.bitmap:
            self._seen.merge(harvest.bitmap, target)
        if harvest.flood:
            self._seen.flood(target)

    def _target(self, name: str) -> int:
        name = name[:_NAME]
        try:
            return self._targets.index(name)
        except ValueError:
            if len(self._targets) >= MAX_TARGETS:
                return NOWHERE
            self._targets.append(name)
            return len(self._targets) - 1

    # ------------------------------------------------------------------------------------- tracing

    def trace(self, value: Json, kind: Kind) -> Traced:
        """Where a value came from.

        A list is as weak as its weakest element. There ``untrusted`` is weaker than ``none``: an invented
        value beside one of an attacker's must not hide it.
        """
        if type(value) is list:
            return self._weakest(value, kind)
        if type(value) is dict:
            return self._weakest(list(value.values()), kind)
        if type(value) is not str:
            if value is None or type(value) is bool:
                return _UNKNOWN
            value = str(value)
        if kind == "recipient" and value[:1] == "[" and (listed := _listed(value)):
            return self._weakest(listed, kind)
        vouched = self._known.vouch(value, kind)
        if vouched is not None:
            origin, match, vouching = vouched
            targets = self._names(vouching)
            also = self._seen.whole(words.plain(value))
            if also is not None:
                named = self._names(also)
                targets = tuple(dict.fromkeys((*targets, *named)))[:3] if targets else named
            return Traced(_VOUCHING[min(origin, FIRST_TARGET)], match, targets)
        suspect = self._seen.suspect(value, kind)
        if suspect is None:
            return _UNKNOWN
        return Traced("untrusted", suspect[0], self._names(suspect[1]))

    def _weakest(self, values: list[Json], kind: Kind) -> Traced:
        if not values:
            return _UNKNOWN
        if len(values) > MAX_ELEMENTS:
            return Traced("untrusted", "none")
        traced = [self.trace(value, kind) for value in values]
        worst = max(traced, key=lambda one: _WORST.index(one.source))
        loosest = max((one.match for one in traced if one.source == worst.source), key=_LOOSEST.index)
        named = (
            name for one in sorted(traced, key=lambda one: -_WORST.index(one.source)) for name in one.targets
        )
        return Traced(worst.source, loosest, tuple(dict.fromkeys(named))[:3])

    def _names(self, indexes: Sequence[int]) -> tuple[str, ...]:
        if not indexes:
            return ()
        count = len(self._targets)
        named = [self._targets[index] for index in indexes if index < count]
        return tuple(named) if len(named) < 2 else tuple(dict.fromkeys(named))[:3]

    # ------------------------------------------------------------------------------------- keeping

    def encode(self) -> list[Any]:
        """A plain value for a snapshot; the key is not in it."""
        known = self._known
        return [1, known.request, known.marks, known.origins, list(self._targets), self._seen.encode()]

    @classmethod
    def decode(cls, value: Any, key: bytes = b"") -> Self:
        """Raises ``msgspec.ValidationError`` for what ``encode`` did not make."""
        kept = msgspec.convert(value, _Kept)
        self = cls(key)
        self._known = Known(key, kept.request, kept.marks, kept.origins)
        self._seen = Seen.decode(kept.seen)
        self._targets = kept.targets
        return self


class _Kept(msgspec.Struct, array_like=True):
    version: Literal[1]
    request: str
    marks: bytes
    origins: bytes
    targets: list[str]
    seen: seen.Kept


def _listed(value: str) -> list[Json] | None:
    """A list of texts that is written as text, as some tools want their recipients."""
    try:
        listed = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    # Not deeper: nesting inside a text is not bounded as that of arguments is.
    return listed if type(listed) is list and all(type(one) is str for one in listed) else None


def weaker(one: Traced, other: Traced) -> Traced:
    """The one that is trusted less; the first of equals."""
    return one if _WORST.index(one.source) >= _WORST.index(other.source) else other
