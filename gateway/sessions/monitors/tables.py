"""What a monitor remembers for each key, in a table that cannot grow.

Both kinds answer in a way that is never in favour of the agent once they are full:

    Recent   keys that something was done for, which makes a later call right. The one done longest ago is
             forgotten first, and what is forgotten was not done.
    Seats    what speaks against a call. A key that finds no seat shares the *rest* with all others that found
             none, and the rest holds at least what any of them did. Nothing is ever taken from a seat that
             still matters, so no key can be used to push out another.

A call whose key cannot be read is remembered for every key by Seats, and for none by Recent. Values are
immutable (numbers and tuples), so that they can be shared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

V = TypeVar("V")


class Recent(Generic[V]):
    """At most ``limit`` keys with a value each, the least recently set first."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: dict[str, V] = {}

    def set(self, key: str, value: V, limit: int) -> bool:
        """Whether anything changed that is more than an order of age."""
        values = self.values
        before = values.pop(key, None)
        values[key] = value
        if len(values) > limit:
            del values[next(iter(values))]
        return before != value

    def encode(self) -> list[Any]:
        return [item for pair in self.values.items() for item in pair]

    @classmethod
    def decode(cls, said: list[Any]) -> Recent[V]:
        table: Recent[V] = cls()
        table.values = dict(zip(said[::2], said[1::2], strict=True))
        return table


class Seats(Generic[V]):
    """At most ``limit`` keys with a value each, and one value for all the others."""

    __slots__ = ("rest", "values")

    def __init__(self, rest: V) -> None:
        self.rest = rest
        self.values: dict[str, V] = {}

    def get(self, key: str) -> V:
        return self.values.get(key, self.rest)

    def all(self) -> Iterator[V]:
        yield self.rest
        yield from self.values.values()

    def add(
        self, key: str | None, more: Callable[[V], V], limit: int, dead: Callable[[V], bool] | None = None
    ) -> bool:
        """Let ``more`` of what it had hold for a key; whether anything changed.

        ``dead`` tells values that say nothing any more: their seats are given away when there is no other.
        """
        values = self.values
        if key is None:
            changed = False
            for each, value in values.items():
                values[each] = found = more(value)
                changed |= found != value
            return self._more_for_the_rest(more) or changed
        value = values.get(key, self.rest)
        found = more(value)
        if key in values:
            values[key] = found
            return found != value
        if found == value:
            return False
        if len(values) >= limit and dead is not None:
            for each in [each for each, value in values.items() if dead(value)]:
                del values[each]
        if len(values) >= limit:
            return self._more_for_the_rest(more)
        values[key] = found
        return True

    def clear(self, key: str | None, zero: V, limit: int) -> bool:
        """Take away what spoke against a key, if it is known apart from the rest."""
        if key is None:
            return False
        value = self.values.get(key, self.rest)
        if value == zero:
            return False
        if self.rest == zero:
            del self.values[key]
        elif key in self.values or len(self.values) < limit:
            self.values[key] = zero
        else:
            return False
        return True

    def _more_for_the_rest(self, more: Callable[[V], V]) -> bool:
        before, self.rest = self.rest, more(self.rest)
        return self.rest != before

    def encode(self, plain: Callable[[V], Any] = lambda value: value) -> list[Any]:
        return [
            plain(self.rest),
            *(item for key, value in self.values.items() for item in (key, plain(value))),
        ]

    @classmethod
    def decode(cls, said: list[Any], made: Callable[[Any], V] = lambda value: value) -> Seats[V]:
        table = cls(made(said[0]))
        table.values = {key: made(value) for key, value in zip(said[1::2], said[2::2], strict=True)}
        return table
