"""Exact, bounded accounts of what was used, and what is promised to calls under way.

    Account    limits of one scope (a session, an agent, a tenant): reserve → settle | release
    Accounts   the accounts that one call is charged to, all or none

A call *reserves* what it may cost before it is sent, and *settles* what it did cost. While its outcome is
unknown the reservation is held: an agent that could make outcomes unknown could otherwise make budget. A
reservation belongs to a call id, and each step happens once for it, however often it is told.

Time is one steady integer of nanoseconds, handed in. An earlier time is taken as the latest one seen, so a
clock that goes back cannot bring anything back. A jump *forward* empties every window; that is for the
caller's clock to refuse, nothing here can tell it from a quiet night.

Amounts are integers from 0 to 2^53, which is what every JSON reader holds exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, Self, get_args

import msgspec

from gateway.sessions.window import FULL, Hour, Window

Metric = Literal["calls", "writes", "irreversible", "cost_micro_usd", "bytes_out", "wall_s"]
Charges = Mapping[str, int]  # metric → amount; never ``wall_s``, which passes by itself

METRICS: Final[tuple[str, ...]] = get_args(Metric)
CHARGED: Final = frozenset(METRICS) - {"wall_s"}
MAX_AMOUNT: Final = 2**53
MAX_RESERVATIONS: Final = 1_024

_S: Final = 1_000_000_000


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """At most ``limit`` of a metric in the last ``window_s`` seconds, or since the start without one."""

    metric: Metric
    limit: int
    window_s: int | None = None

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"'{self.metric}' is no metric of a budget; these are: {', '.join(METRICS)}")
        if isinstance(self.limit, bool) or not 0 <= self.limit <= MAX_AMOUNT:
            raise ValueError(f"the budget of '{self.metric}' is not between 0 and 2^53")
        if self.window_s is not None and not 0 < self.window_s <= 366 * 86_400:
            raise ValueError(f"the window of '{self.metric}' is not between a second and a year")
        if self.window_s is not None and self.metric == "wall_s":
            raise ValueError("time passes once: a budget of 'wall_s' has no window")


class Exceeded(msgspec.Struct, frozen=True):
    """Why a call was not reserved. ``metric`` is "reservations" when too many calls are under way or held."""

    metric: str
    limit: int
    used: int
    reserved: int
    asked: int
    window_s: int | None = None
    scope: str = ""  # set by ``Accounts``

    @property
    def left(self) -> int:
        return max(0, self.limit - self.used - self.reserved)


class _Meter:
    """One limited metric. ``hour`` serves the burn rates, and the limit itself when that is its window."""

    __slots__ = ("hour", "limit", "most", "reserved", "window")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.most = limit.limit
        self.reserved = 0
        self.hour = Hour()
        self.window = self._windowed(limit)  # ``None``: since the start

    def _windowed(self, limit: Limit) -> Window | None:
        if limit.window_s is None:
            return None
        return self.hour if limit.window_s == 3600 else Window(limit.window_s * _S)

    def resize(self, limit: Limit) -> None:
        if limit.window_s != self.limit.window_s:
            known = self.window
            if known is None or known.width_ns < self.hour.width_ns or (limit.window_s or 0) < 3600:
                known = self.hour
            self.window = self._windowed(limit)
            if self.window is not None and self.window is not self.hour:
                self.window = known.resized((limit.window_s or 0) * _S)
        self.limit = limit
        self.most = limit.limit


class _Saved(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An account at rest."""

    opened_ns: int
    latest_ns: int
    limits: tuple[Limit, ...]
    meters: dict[str, tuple[list[int], list[int] | None]]  # the hour; the window, when it is another one
    unlimited: dict[str, int]
    reservations: dict[str, dict[str, int]]
    held: tuple[str, ...]
    max_reservations: int


class Account:
    """What one scope may use, has used, and has promised.

    Amounts with no limit are summed too, so that a limit set later finds them. ``wall_s`` is never charged:
    it is the time since ``opened_ns``.
    """

    __slots__ = ("_held", "_latest", "_max", "_meters", "_opened", "_reservations", "_unlimited", "_wall")

    def __init__(
        self, limits: Iterable[Limit] = (), *, opened_ns: int, max_reservations: int = MAX_RESERVATIONS
    ) -> None:
        self._meters: dict[str, _Meter] = {}
        self._wall: Limit | None = None
        self._opened = opened_ns
        self._latest = opened_ns
        self._unlimited: dict[str, int] = {}
        self._reservations: dict[str, Charges] = {}
        self._held: set[str] = set()
        self._max = max_reservations
        self._limit(limits)

    # -- the life of a charge ---------------------------------------------------------------------------

    def reserve(self, call_id: str, charges: Charges, at: int) -> tuple[Exceeded, ...]:
        """Set the charges aside, or say every limit that is in the way and set aside nothing.

        A call id that has a reservation keeps it as it is. An amount of 0 asks for nothing, so it passes
        where nothing is left. ``ValueError`` for amounts that are none.
        """
        charges = checked(charges)
        exceeded = self._exceeded(call_id, charges, at)
        if not exceeded:
            self._reserve(call_id, charges)
        return exceeded

    def settle(self, call_id: str, actual: Charges | None, at: int) -> bool:
        """Turn the reservation into use; ``False`` when there is none, and then nothing changes.

        ``actual`` replaces what was reserved metric by metric; a metric it does not name was used as
        reserved. More than was reserved is recorded as well, even over the limit: it has happened.
        """
        return self._settle(call_id, checked(actual) if actual else {}, at)

    def release(self, call_id: str) -> bool:
        """Give the reservation back: nothing was sent. ``False`` when there is none."""
        reserved = self._reservations.pop(call_id, None)
        if reserved is None:
            return False
        self._held.discard(call_id)
        self._free(reserved)
        return True

    def hold(self, call_id: str) -> bool:
        """The outcome is unknown: the reservation stays until ``settle`` or ``release``."""
        if call_id not in self._reservations:
            return False
        self._held.add(call_id)
        return True

    def promise(self, call_id: str, charges: Charges) -> None:
        """Set the charges of a call aside whatever the limits say: it was made, and is not over."""
        if call_id not in self._reservations:
            self._reserve(call_id, checked(charges))

    def charge(self, charges: Charges, at: int) -> None:
        """Record use that nobody reserved, whatever the limits say."""
        self._charge(checked(charges), at)

    def reservations(self) -> Mapping[str, bool]:
        """Call id → whether it is held, oldest first."""
        return {call_id: call_id in self._held for call_id in self._reservations}

    def facts(self, at: int) -> dict[str, dict[str, int]]:
        """Of each limited metric: used, reserved, limit, left, burn_5m, burn_1h, and window_s if it has one.

        The burns are what was used in the last five minutes (up to a minute more) and in the last hour.
        Sums beyond 2^53 are given as 2^53.
        """
        found: dict[str, dict[str, int]] = {}
        for metric, meter in self._meters.items():
            hour, window, reserved = meter.hour, meter.window, meter.reserved
            if at >= hour.end_ns:
                hour.advance(at)
            used = hour.gone + hour.sum if window is None else window.sum_at(at)
            left = meter.most - used - reserved
            found[metric] = fact = {
                "used": used,
                "reserved": reserved,
                "limit": meter.most,
                "left": left if left > 0 else 0,
                "burn_5m": hour.before + hour.open,
                "burn_1h": hour.sum,
            }
            if window is not None:
                fact["window_s"] = meter.limit.window_s or 0
            if used > MAX_AMOUNT or hour.sum > MAX_AMOUNT or reserved > MAX_AMOUNT:
                found[metric] = {name: min(number, MAX_AMOUNT) for name, number in fact.items()}
        if self._wall is not None:
            passed, limited = self._passed(at) // _S, self._wall.limit
            found["wall_s"] = {
                "used": passed,
                "reserved": 0,
                "limit": limited,
                "left": max(0, limited - passed),
                "burn_5m": min(passed, 300),
                "burn_1h": min(passed, 3600),
            }
        return found

    # -- other lives ------------------------------------------------------------------------------------

    def resized(self, limits: Iterable[Limit]) -> Account:
        """The account under other limits; what was used and promised stays.

        A window of another length starts with what is still known of when things were used: that of the
        window before, or of the last hour.
        """
        new = self.carried()
        new._limit(limits)
        return new

    def carried(self) -> Account:
        """What a session that follows starts with: the use and every reservation, so it refills nothing."""
        return self.decode(self.encode())

    def encode(self) -> dict[str, Any]:
        """The account as plain values; ``decode`` makes one that does exactly the same from then on."""
        saved = _Saved(
            opened_ns=self._opened,
            latest_ns=self._latest,
            limits=self.limits,
            meters={
                metric: (
                    meter.hour.encode(),
                    meter.window.encode() if meter.window and meter.window is not meter.hour else None,
                )
                for metric, meter in self._meters.items()
            },
            unlimited=dict(self._unlimited),
            reservations={call_id: dict(charges) for call_id, charges in self._reservations.items()},
            held=tuple(sorted(self._held)),
            max_reservations=self._max,
        )
        plain: dict[str, Any] = msgspec.to_builtins(saved)
        return plain

    @classmethod
    def decode(cls, value: object) -> Self:
        """``msgspec.ValidationError`` for anything that ``encode`` did not make."""
        saved = msgspec.convert(value, _Saved)
        account = cls(saved.limits, opened_ns=saved.opened_ns, max_reservations=saved.max_reservations)
        account._latest = saved.latest_ns
        account._unlimited = dict(saved.unlimited)
        account._reservations = dict(saved.reservations)
        account._held = set(saved.held)
        for metric, meter in account._meters.items():
            hour, window = saved.meters[metric]
            meter.hour.restore(hour)
            if window is not None and meter.window is not None:
                meter.window.restore(window)
        account._count_reserved()
        return account

    @property
    def limited(self) -> bool:
        return bool(self._meters) or self._wall is not None

    @property
    def limits(self) -> tuple[Limit, ...]:
        wall = () if self._wall is None else (self._wall,)
        return (*(meter.limit for meter in self._meters.values()), *wall)

    # -- within -----------------------------------------------------------------------------------------

    def _limit(self, limits: Iterable[Limit]) -> None:
        old, self._meters, self._wall = self._meters, {}, None
        for limit in limits:
            if limit.metric == "wall_s":
                self._wall = limit
            elif limit.metric in self._meters:
                raise ValueError(f"two budgets of '{limit.metric}' in one account")
            elif limit.metric in old:
                self._meters[limit.metric] = old.pop(limit.metric)
                self._meters[limit.metric].resize(limit)
            else:
                meter = self._meters[limit.metric] = _Meter(limit)
                meter.hour.gone = self._unlimited.pop(limit.metric, 0)
        for metric, meter in old.items():
            self._unlimited[metric] = meter.hour.total
        self._count_reserved()

    def _count_reserved(self) -> None:
        for metric, meter in self._meters.items():
            meter.reserved = sum(charges.get(metric, 0) for charges in self._reservations.values())

    def _exceeded(self, call_id: str, charges: Charges, at: int) -> tuple[Exceeded, ...]:
        if call_id in self._reservations:
            return ()
        found: list[Exceeded] = []
        meters = self._meters
        for metric, amount in charges.items():
            meter = meters.get(metric)
            if meter is None or not amount:
                continue
            window = meter.window
            if window is None:
                used = meter.hour.gone + meter.hour.sum
            else:
                if at >= window.end_ns:
                    window.advance(at)
                used = window.sum
            if used + meter.reserved + amount > meter.most:
                window_s = meter.limit.window_s
                found.append(Exceeded(metric, meter.most, used, meter.reserved, amount, window_s))
        if self._wall is not None:
            passed = self._passed(at)
            if passed >= self._wall.limit * _S:
                found.append(Exceeded("wall_s", self._wall.limit, passed // _S, 0, 0))
        if len(self._reservations) >= self._max:
            found.append(Exceeded("reservations", self._max, 0, len(self._reservations), 1))
        return tuple(found)

    def _reserve(self, call_id: str, charges: Charges) -> None:
        if call_id in self._reservations:
            return
        self._reservations[call_id] = charges
        meters = self._meters
        for metric, amount in charges.items():
            if (meter := meters.get(metric)) is not None:
                meter.reserved += amount

    def _free(self, reserved: Charges) -> None:
        meters = self._meters
        for metric, amount in reserved.items():
            if metric in meters:
                meters[metric].reserved -= amount

    def _settle(self, call_id: str, actual: Charges, at: int) -> bool:
        reserved = self._reservations.pop(call_id, None)
        if reserved is None:
            return False
        if self._held:
            self._held.discard(call_id)
        self._free(reserved)
        self._charge({**reserved, **actual} if actual else reserved, at)
        return True

    def _charge(self, charges: Charges, at: int) -> None:
        meters, unlimited = self._meters, self._unlimited
        for metric, amount in charges.items():
            meter = meters.get(metric)
            if meter is None:
                unlimited[metric] = min(unlimited.get(metric, 0) + amount, FULL)
                continue
            if not amount:
                continue
            meter.hour.add(amount, at)
            window = meter.window
            if window is not None and window is not meter.hour:
                window.add(amount, at)

    def _passed(self, at: int) -> int:
        if at > self._latest:
            self._latest = at
        return self._latest - self._opened


class Accounts:
    """The accounts that a call is charged to: its session, every session above it, its agent, its tenant.

    Scopes may share a name (two ancestors are both ``tree``), and an account may stand here twice.
    """

    __slots__ = ("_scopes",)

    def __init__(self, scopes: Iterable[tuple[str, Account]]) -> None:
        self._scopes = tuple(scopes)

    def reserve(self, call_id: str, charges: Charges, at: int) -> tuple[Exceeded, ...]:
        """Reserve in all accounts, or say each scope and metric in the way and reserve in none."""
        charges = checked(charges)
        exceeded: tuple[Exceeded, ...] = ()
        for scope, account in self._scopes:
            if found := account._exceeded(call_id, charges, at):
                exceeded += tuple(msgspec.structs.replace(item, scope=scope) for item in found)
        if not exceeded:
            for _, account in self._scopes:
                account._reserve(call_id, charges)
        return exceeded

    def settle(self, call_id: str, actual: Charges | None, at: int) -> bool:
        """Settle in all accounts; ``False`` when no account has a reservation of this call."""
        actual = checked(actual) if actual else {}
        settled = False
        for _, account in self._scopes:
            settled |= account._settle(call_id, actual, at)
        return settled

    def release(self, call_id: str) -> bool:
        return self._each(lambda account: account.release(call_id))

    def hold(self, call_id: str) -> bool:
        return self._each(lambda account: account.hold(call_id))

    def facts(self, at: int) -> dict[str, dict[str, dict[str, int]]]:
        """Scope → the facts of its account; where scopes share a name, of each metric what has least left."""
        found: dict[str, dict[str, dict[str, int]]] = {}
        for scope, account in self._scopes:
            facts = account.facts(at)
            if scope in found:
                for metric, fact in facts.items():
                    other = found[scope].get(metric)
                    if other is None or fact["left"] < other["left"]:
                        found[scope][metric] = fact
            elif facts:
                found[scope] = facts
        return found

    def __iter__(self) -> Iterator[tuple[str, Account]]:
        return iter(self._scopes)

    def _each(self, step: Callable[[Account], bool]) -> bool:
        done = False
        for _, account in self._scopes:
            done |= step(account)
        return done


def checked(charges: Charges) -> Charges:
    """A copy of the charges, or ``ValueError``: a charge that is ignored is budget that is not there."""
    for metric, amount in charges.items():
        if metric not in CHARGED:
            raise ValueError(f"'{metric}' cannot be charged")
        # ``type``, since a bool is an int that says nothing about money.
        if type(amount) is not int or not 0 <= amount <= MAX_AMOUNT:
            raise ValueError(f"the charge of '{metric}' is not an integer between 0 and 2^53")
    return dict(charges)
