"""What a monitor remembers for each key, in a table that cannot grow.

Both kinds answer in a way that is never in favour of the agent once they are full:

    Recent   keys that something was done for, which makes a later call right. The one done longest ago is
             forgotten first, and what is forgotten was not done.
    Seats    what speaks against a call. A key that finds no seat shares the *rest* with all others that found
             none, and the rest holds at least what any of them did. Nothing is ever taken from a seat that
             still matters, so no key can be used to push out another.

A call whose key cannot be read is remembered for every key by Seats, and for none by Recent. Values are
immutable and small (numbers, texts, bytes): every live session has them in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

V = TypeVar("V")

_END = "\n"  # of a key; keys are base64, or empty


class Few(Generic[V]):
    """A dictionary of a few short keys, in the order they were set, at a quarter of the memory of one.

    Sixty-four keys of sixteen characters are one text and one list: 2 KB, not 6. A key is found by a search
    in the text, which for so few takes no longer than the rest of a step.
    """

    __slots__ = ("_keys", "_values")

    def __init__(self, keys: list[str] | None = None, values: list[V] | None = None) -> None:
        self._keys = _END + "".join([key + _END for key in keys or ()])  # each between two ends
        self._values: list[V] = values or []

    def _at(self, key: str) -> int:
        found = self._keys.find(f"{_END}{key}{_END}")
        return self._keys.count(_END, 0, found) if found >= 0 else -1

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: str) -> bool:
        return f"{_END}{key}{_END}" in self._keys

    def get(self, key: str, default: V) -> V:
        at = self._at(key)
        return self._values[at] if at >= 0 else default

    def set(self, key: str, value: V) -> None:
        at = self._at(key)
        if at >= 0:
            self._values[at] = value
            return
        if _END in key:  # it would be two
            raise ValueError("no key of a monitor")
        self._keys += key + _END
        self._values.append(value)

    def drop(self, key: str) -> None:
        at = self._at(key)
        if at >= 0:
            del self._values[at]
            self._keys = self._keys.replace(f"{_END}{key}{_END}", _END, 1)

    def drop_first(self) -> None:
        del self._values[0]
        self._keys = self._keys[self._keys.index(_END, 1) :]

    def change(self, more: Callable[[V], V]) -> bool:
        """Let ``more`` hold of every value; whether anything changed."""
        before, self._values = self._values, [more(value) for value in self._values]
        return before != self._values

    def keys(self) -> list[str]:
        return self._keys[1:].split(_END)[:-1]

    def values(self) -> list[V]:
        return self._values

    def items(self) -> Iterator[tuple[str, V]]:
        return zip(self.keys(), self._values, strict=True)


class Recent(Generic[V]):
    """At most ``limit`` keys with a value each, the least recently set first."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: Few[V] = Few()

    def get(self, key: str) -> V | None:
        return self.values.get(key, None)  # type: ignore[arg-type]  # ``None`` is no value

    def latest(self) -> V | None:
        found = self.values.values()
        return found[-1] if found else None

    def set(self, key: str, value: V, limit: int) -> bool:
        """Whether anything changed that is more than an order of age."""
        values = self.values
        before = self.get(key)
        values.drop(key)
        values.set(key, value)
        if len(values) > limit:
            values.drop_first()
        return before != value

    def encode(self, plain: Callable[[V], Any] = lambda value: value) -> list[Any]:
        return [item for key, value in self.values.items() for item in (key, plain(value))]

    @classmethod
    def decode(cls, said: list[Any], made: Callable[[Any], V] = lambda value: value) -> Recent[V]:
        table: Recent[V] = cls()
        for key, value in zip(said[::2], said[1::2], strict=True):
            table.values.set(key, made(value))
        return table


class Seats(Generic[V]):
    """At most ``limit`` keys with a value each, and one value for all the others."""

    __slots__ = ("rest", "values")

    def __init__(self, rest: V) -> None:
        self.rest = rest
        self.values: Few[V] = Few()

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
            changed = values.change(more)
            return self._more_for_the_rest(more) or changed
        value = values.get(key, self.rest)
        found = more(value)
        if key in values:
            values.set(key, found)
            return found != value
        if found == value:
            return False
        if len(values) >= limit and dead is not None:
            for each in [each for each, value in values.items() if dead(value)]:
                values.drop(each)
        if len(values) >= limit:
            return self._more_for_the_rest(more)
        values.set(key, found)
        return True

    def clear(self, key: str | None, zero: V, limit: int) -> bool:
        """Take away what spoke against a key, if it is known apart from the rest."""
        if key is None:
            return False
        value = self.values.get(key, self.rest)
        if value == zero:
            return False
        if self.rest == zero:
            self.values.drop(key)
        elif key in self.values or len(self.values) < limit:
            self.values.set(key, zero)
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
        for key, value in zip(said[1::2], said[2::2], strict=True):
            table.values.set(key, made(value))
        return table
