"""The nine templates as automata: constant work per event, a few numbers per key.

Each is defined by a formula over the trace of committed calls, in past-time temporal logic: ``◆p`` (once: p
held at some earlier call), ``p S q`` (since: q held at an earlier call and p at every call after it). All are
about the calls *before* the one that is judged. The recursion that makes such formulas incremental, one step
per event and without the trace, is Havelund and Roşu's ("Synthesizing monitors for safety properties", TACAS
2002); ``tests/sessions/monitors/whole_trace.py`` evaluates them the slow way, and the two must agree.

With ``by``, a formula is read for the key of the call that is judged: only calls of the same key count. An
event that cannot be read for its key counts for every key where it speaks against the agent, and for none
where it speaks for it. A table that is full answers as ``tables.py`` says.
"""

from __future__ import annotations

from array import array
from base64 import b64encode
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any, ClassVar, Final, Protocol

import msgspec

from gateway.sessions.monitors import definitions as d
from gateway.sessions.monitors.matching import scaled
from gateway.sessions.monitors.tables import Recent, Seats

FULL: Final = 2**62
UNREADABLE: Final = -1
_S: Final = 1_000_000_000
_SLOTS: Final = 12
_TABLE: Final = 1_800  # bytes of a table whose size nobody chose
_ACTORS: Final = 4
_ANYBODY: Final = "*"


def _packed(numbers: Iterable[int]) -> bytes:
    """Numbers as a table keeps them: eight bytes each, where one in a tuple takes forty."""
    return array("q", numbers).tobytes()


def _numbers(packed: bytes) -> array[int]:
    return array("q", packed)


def _plain(packed: bytes) -> list[int]:
    return list(_numbers(packed))


Mark = tuple[int, str | None]
"""A matcher that matched, by its bit, and the key of the call for it."""


class Moment(msgspec.Struct, frozen=True):
    """What besides its marks matters of a call. ``calls``: committed before it. ``amount`` in the smallest
    unit, or ``UNREADABLE``."""

    now: int
    calls: int
    amount: int = 1
    actor: str = ""


class Seen(msgspec.Struct, frozen=True):
    """What a monitor says of a call: ``why`` is "" when nothing speaks against it."""

    why: str
    count: int | None = None
    left: int | None = None


FINE: Final = Seen("")


class Automaton(Protocol):
    """One template with its parameters. A cell is its state in a session, ``None`` before the first event."""

    keys: int

    def start(self) -> Any: ...

    def judge(self, cell: Any, marks: tuple[Mark, ...], at: Moment) -> Seen: ...

    def step(self, cell: Any, mark: Mark, at: Moment) -> bool: ...

    def encode(self, cell: Any) -> list[Any]: ...

    def decode(self, said: list[Any]) -> Any: ...

    def size(self) -> int:
        """Bytes that a cell takes at most, as MessagePack."""
        ...


def automaton(template: str, body: d.Template) -> Automaton:
    return _MADE[template](body)


class _Recent:
    """Templates in which an earlier call makes a later one right."""

    per_key: ClassVar[int] = 17

    def __init__(self, body: d.MustPrecede | d.Within) -> None:
        self.keys = _keys(body, self.per_key)

    def start(self) -> Recent[Any]:
        return Recent()

    def encode(self, cell: Recent[Any]) -> list[Any]:
        return cell.encode()

    def decode(self, said: list[Any]) -> Recent[Any]:
        return Recent.decode(said)

    def size(self) -> int:
        return self.keys * self.per_key + 3


class MustPrecede(_Recent):
    """``then → ◆first``. The key forgotten first counts as not preceded."""

    per_key = 18

    def judge(self, cell: Recent[int] | None, marks: tuple[Mark, ...], at: Moment) -> Seen:
        for bit, key in marks:
            if bit == 2 and (cell is None or key is None or key not in cell.values):
                return Seen("not_preceded")
        return FINE

    def step(self, cell: Recent[int], mark: Mark, at: Moment) -> bool:
        return mark[1] is not None and cell.set(mark[1], 1, self.keys)


class Within(_Recent):
    """``then → ◆(first ∧ t(now) − t ≤ seconds ∧ #(now) − # ≤ calls)``, ``#`` being the number of a call.

    It is enough to know the latest ``first``. The key forgotten first counts as not preceded.
    """

    per_key = 17 + 9 + 9 + 1

    def __init__(self, body: d.Within) -> None:
        super().__init__(body)
        self.seconds = body.seconds
        self.calls = body.calls

    def judge(self, cell: Recent[bytes] | None, marks: tuple[Mark, ...], at: Moment) -> Seen:
        for bit, key in marks:
            if bit != 2:
                continue
            found = cell.get(key) if cell is not None and key is not None else None
            if found is None:
                return Seen("not_preceded")
            last = _numbers(found)
            if self.seconds is not None and at.now - last[0] > self.seconds * _S:
                return Seen("too_late")
            if self.calls is not None and at.calls + 1 - last[1] > self.calls:
                return Seen("too_late")
        return FINE

    def step(self, cell: Recent[bytes], mark: Mark, at: Moment) -> bool:
        return mark[1] is not None and cell.set(mark[1], _packed((at.now, at.calls + 1)), self.keys)

    def counting(self, cell: Recent[bytes] | None, calls: int) -> bool:
        """Whether the number of calls still matters: losing a count would let a call through later."""
        latest = cell.latest() if cell is not None else None
        return self.calls is not None and latest is not None and calls - _numbers(latest)[1] <= self.calls

    def encode(self, cell: Recent[bytes]) -> list[Any]:
        return cell.encode(_plain)

    def decode(self, said: list[Any]) -> Recent[bytes]:
        return Recent.decode(said, _packed)


class _Seats:
    """Templates in which an earlier call speaks against a later one."""

    zero: Any = 0
    keys: int
    each: int = 9  # bytes of one value

    def start(self) -> Seats[Any]:
        return Seats(self.zero)

    def encode(self, cell: Seats[Any]) -> list[Any]:
        return cell.encode()

    def decode(self, said: list[Any]) -> Seats[Any]:
        return Seats.decode(said)

    def size(self) -> int:
        return self.keys * (17 + self.each) + self.each + 3


class AtMost(_Seats):
    """``match → |{earlier match}| + 1 ≤ n``, or ``match → Σ amount ≤ limit`` with the amount of this call.

    A key that found no room is counted with all others of that kind, so it can only be refused too early.
    An amount that is no plain number, or below nothing, cannot be counted: it violates, and if it is
    committed all the same (by a person, or where the rule only observes), nothing is left of the limit.
    """

    def __init__(self, body: d.AtMostN | d.AtMostTotal) -> None:
        if isinstance(body, d.AtMostTotal):
            self.limit = scaled(body.limit, body.decimals) or 0
        else:
            self.limit = body.n
        self.keys = _keys(body, 17 + self.each, self.each)

    def total(self, value: Any, now: int) -> int:
        found: int = value
        return found

    def more(self, amount: int, now: int) -> Callable[[Any], Any]:
        return lambda value: min(value + amount, FULL)

    def dead(self, now: int) -> Callable[[Any], bool] | None:
        return None

    def judge(self, cell: Seats[Any] | None, marks: tuple[Mark, ...], at: Moment) -> Seen:
        key = marks[0][1]
        if key is None:
            return Seen("no_key")
        used = self.total(cell.get(key), at.now) if cell is not None else 0
        left = max(0, self.limit - used)
        if at.amount == UNREADABLE:
            return Seen("unreadable_amount", used, left)
        return Seen("limit_reached" if used + at.amount > self.limit else "", used, left)

    def step(self, cell: Seats[Any], mark: Mark, at: Moment) -> bool:
        amount = FULL if at.amount == UNREADABLE else at.amount
        if not amount:
            return False
        return cell.add(mark[1], self.more(amount, at.now), self.keys, self.dead(at.now))


class AtMostInSlots(AtMost):
    """``match → |{earlier match: slot(now) − slot(t) ≤ 12}| + 1 ≤ n``, or the sum of the amounts of these.

    A slot is a twelfth of the window, so what is counted is never less than the window and at most a twelfth
    more. That bounds the state at thirteen numbers, whatever the limit.
    """

    zero = b""
    each = 13 * 18 + 3

    def __init__(self, body: d.RateLimit | d.AtMostTotal) -> None:
        window = body.per_s if isinstance(body, d.RateLimit) else (body.within_s or 0)
        self.slot = -(-window * _S // _SLOTS)
        if isinstance(body, d.AtMostTotal):
            self.limit = scaled(body.limit, body.decimals) or 0
        else:
            self.limit = body.n
        self.keys = _keys(body, 17 + self.each, self.each)

    def total(self, packed: bytes, now: int) -> int:
        value = _numbers(packed)
        oldest = now // self.slot - _SLOTS
        found = 0
        for place in range(len(value) - 2, -1, -2):
            if value[place] < oldest:
                break
            found += value[place + 1]
        return found

    def more(self, amount: int, now: int) -> Callable[[Any], Any]:
        index = now // self.slot
        oldest = index - _SLOTS

        def add(packed: bytes) -> bytes:
            value = _numbers(packed)
            while value and value[0] < oldest:
                del value[:2]
            if value and value[-2] == index:
                value[-1] = min(value[-1] + amount, FULL)
            else:
                value.extend((index, min(amount, FULL)))
            return value.tobytes()

        return add

    def dead(self, now: int) -> Callable[[Any], bool] | None:
        oldest = now // self.slot - _SLOTS
        return lambda packed: not packed or _numbers(packed)[-2] < oldest

    def encode(self, cell: Seats[bytes]) -> list[Any]:
        return cell.encode(_plain)

    def decode(self, said: list[Any]) -> Seats[Any]:
        return Seats.decode(said, _packed)


class AtMostInWindow(AtMost):
    """``match → |{earlier match: t(now) − t < within_s}| + 1 ≤ n``; the last ``n`` times are kept."""

    zero = b""

    def __init__(self, body: d.AtMostN) -> None:
        self.each = 9 * body.n + 3
        self.window = (body.within_s or 0) * _S
        super().__init__(body)

    def total(self, packed: bytes, now: int) -> int:
        oldest = now - self.window
        return sum(1 for time in _numbers(packed) if time > oldest)

    def more(self, amount: int, now: int) -> Callable[[Any], Any]:
        oldest = now - self.window
        # An older one would be out of the window before any that is kept.
        return lambda packed: _packed(
            [*(time for time in _numbers(packed) if time > oldest), now][-self.limit :]
        )

    def dead(self, now: int) -> Callable[[Any], bool] | None:
        oldest = now - self.window
        return lambda packed: not packed or _numbers(packed)[-1] <= oldest

    def encode(self, cell: Seats[bytes]) -> list[Any]:
        return cell.encode(_plain)

    def decode(self, said: list[Any]) -> Seats[Any]:
        return Seats.decode(said, _packed)


class NeverAfter(_Seats):
    """``match → ¬◆after``. A key that found no room counts as one that ``after`` has happened for."""

    each = 1

    def __init__(self, body: d.NeverAfter) -> None:
        self.keys = _keys(body, 17 + self.each, self.each)

    def judge(self, cell: Seats[int] | None, marks: tuple[Mark, ...], at: Moment) -> Seen:
        for bit, key in marks:
            # Where 'after' is a label of the session, having it now means that it came before.
            if bit == 1 or (cell is not None and (any(cell.all()) if key is None else cell.get(key))):
                return Seen("after")
        return FINE

    def step(self, cell: Seats[int], mark: Mark, at: Moment) -> bool:
        return cell.add(mark[1], lambda value: 1, self.keys)


class CannotFollowWithout(_Seats):
    """``match → ¬(¬unless S after)``. A call that is both ``after`` and ``unless`` counts as ``after``.

    A key that found no room counts as pending from the moment that any of them is.
    """

    each = 1

    def __init__(self, body: d.CannotFollowWithout) -> None:
        self.keys = _keys(body, 17 + self.each, self.each)

    def judge(self, cell: Seats[int] | None, marks: tuple[Mark, ...], at: Moment) -> Seen:
        for _, key in marks:
            if cell is not None and (any(cell.all()) if key is None else cell.get(key)):
                return Seen("not_in_between")
        return FINE

    def step(self, cell: Seats[int], mark: Mark, at: Moment) -> bool:
        if mark[0] == 4:
            return cell.clear(mark[1], 0, self.keys)
        return cell.add(mark[1], lambda value: 1, self.keys)


class MutuallyExclusive(_Seats):
    """``set_i → ¬⋁_{j≠i} (◆set_j ∨ set_j)``. Keys that found no room share what happened for any of them."""

    each = 2

    def __init__(self, body: d.MutuallyExclusive) -> None:
        self.keys = _keys(body, 17 + self.each, self.each)

    def judge(self, cell: Seats[int] | None, marks: tuple[Mark, ...], at: Moment) -> Seen:
        for bit, key in marks:
            others = sum(b for b, k in marks if b != bit and (k == key or k is None or key is None))
            if cell is not None:
                for mask in cell.all() if key is None else (cell.get(key),):
                    others |= mask
            if others & ~bit:
                return Seen("excluded")
        return FINE

    def step(self, cell: Seats[int], mark: Mark, at: Moment) -> bool:
        return cell.add(mark[1], lambda value: value | mark[0], self.keys)


class SeparationOfActors(_Seats):
    """``then by a → ¬◆(first by a)``. An actor nobody knows is everybody, and so are more than four."""

    zero = ""  # short names of actors with spaces between them
    each = _ACTORS * 13 + 1

    def __init__(self, body: d.SeparationOfActors) -> None:
        self.keys = _keys(body, 17 + self.each, self.each)

    def judge(self, cell: Seats[str] | None, marks: tuple[Mark, ...], at: Moment) -> Seen:
        for _, key in marks:
            for actors in () if cell is None else cell.all() if key is None else (cell.get(key),):
                if actors and (actors == _ANYBODY or not at.actor or at.actor in actors.split()):
                    return Seen("same_actor")
        return FINE

    def step(self, cell: Seats[str], mark: Mark, at: Moment) -> bool:
        def add(value: str) -> str:
            actors = value.split()
            if not at.actor or value == _ANYBODY:
                return _ANYBODY
            if at.actor in actors:
                return value
            return " ".join((*actors, at.actor)) if len(actors) < _ACTORS else _ANYBODY

        return cell.add(mark[1], add, self.keys)

    def encode(self, cell: Seats[str]) -> list[Any]:
        return cell.encode(str.split)

    def decode(self, said: list[Any]) -> Seats[Any]:
        return Seats.decode(said, " ".join)


def actor_of(name: str) -> str:
    """A short name of an actor. Two of the same would be kept apart too often, never too seldom."""
    return b64encode(blake2b(name.encode(), digest_size=9).digest()).decode() if name else ""


def _keys(body: d.Template, per_key: int, rest: int = 0) -> int:
    if body.by is None:
        return 1
    return body.keys or max(1, min(d.DEFAULT_KEYS, (_TABLE - rest) // per_key))


def _at_most(body: Any) -> Automaton:
    if isinstance(body, d.AtMostN):
        return AtMost(body) if body.within_s is None else AtMostInWindow(body)
    return AtMost(body) if body.within_s is None else AtMostInSlots(body)


_MADE: Final[dict[str, Callable[[Any], Automaton]]] = {
    "must_precede": MustPrecede,
    "at_most_n": _at_most,
    "at_most_total": _at_most,
    "never_after": NeverAfter,
    "cannot_follow_without": CannotFollowWithout,
    "mutually_exclusive": MutuallyExclusive,
    "rate_limit": AtMostInSlots,
    "separation_of_actors": SeparationOfActors,
    "within": Within,
}
