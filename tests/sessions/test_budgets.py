"""Budgets are exact: reserved everywhere or nowhere, used once, held in doubt, never refilled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.sessions.budgets import MAX_AMOUNT, Account, Accounts, Exceeded, Limit

S = 1_000_000_000
T0 = 1_800_000_000 * S


def account(*limits: Limit, **more: Any) -> Account:
    return Account(limits, opened_ns=T0, **more)


def test_a_reservation_counts_until_it_is_released() -> None:
    budget = account(Limit("calls", 2))
    assert budget.reserve("a", {"calls": 1}, T0) == ()
    assert budget.reserve("b", {"calls": 1}, T0) == ()
    assert budget.reserve("c", {"calls": 1}, T0) == (Exceeded("calls", 2, 0, 2, 1),)
    budget.release("a")
    assert budget.reserve("c", {"calls": 1}, T0) == ()


def test_what_was_used_stays_used() -> None:
    budget = account(Limit("calls", 1))
    budget.reserve("a", {"calls": 1}, T0)
    budget.settle("a", None, T0)
    budget.release("a")
    assert budget.reserve("b", {"calls": 1}, T0)[0].used == 1


def test_all_or_nothing_says_every_metric_in_the_way() -> None:
    budget = account(Limit("calls", 5), Limit("writes", 0), Limit("cost_micro_usd", 10, 60))
    refused = budget.reserve("a", {"calls": 1, "writes": 1, "cost_micro_usd": 11}, T0)
    assert [(item.metric, item.left, item.window_s) for item in refused] == [
        ("writes", 0, None),
        ("cost_micro_usd", 10, 60),
    ]
    assert all(fact["reserved"] == 0 for fact in budget.facts(T0).values())


def test_a_call_in_doubt_keeps_its_reservation_however_long() -> None:
    budget = account(Limit("calls", 1, 60))
    budget.reserve("a", {"calls": 1}, T0)
    assert budget.hold("a")
    assert budget.reserve("b", {"calls": 1}, T0 + 86_400 * S)
    assert budget.reservations() == {"a": True}
    assert budget.settle("a", None, T0 + 86_400 * S)
    assert budget.reserve("b", {"calls": 1}, T0 + 86_410 * S)
    assert not budget.reserve("b", {"calls": 1}, T0 + 86_470 * S)


def test_settling_twice_uses_once_and_releasing_after_it_gives_nothing_back() -> None:
    budget = account(Limit("cost_micro_usd", 100))
    budget.reserve("a", {"cost_micro_usd": 40}, T0)
    assert budget.settle("a", {"cost_micro_usd": 30}, T0)
    assert not budget.settle("a", {"cost_micro_usd": 30}, T0)
    assert not budget.release("a")
    assert not budget.hold("a")
    assert budget.facts(T0)["cost_micro_usd"]["used"] == 30


def test_reserving_twice_reserves_once() -> None:
    budget = account(Limit("calls", 5))
    budget.reserve("a", {"calls": 2}, T0)
    assert budget.reserve("a", {"calls": 5}, T0) == ()
    assert budget.facts(T0)["calls"]["reserved"] == 2


def test_a_metric_the_outcome_does_not_name_was_used_as_reserved() -> None:
    budget = account(Limit("calls", 5), Limit("cost_micro_usd", 5))
    budget.reserve("a", {"calls": 1, "cost_micro_usd": 5}, T0)
    budget.settle("a", {"cost_micro_usd": 1}, T0)
    facts = budget.facts(T0)
    assert (facts["calls"]["used"], facts["cost_micro_usd"]["used"]) == (1, 1)


def test_what_cost_more_than_reserved_is_recorded_over_the_limit() -> None:
    budget = account(Limit("cost_micro_usd", 10), Limit("calls", 10))
    budget.reserve("a", {"cost_micro_usd": 5}, T0)
    budget.settle("a", {"cost_micro_usd": 500}, T0)
    assert budget.facts(T0)["cost_micro_usd"] == {
        "used": 500, "reserved": 0, "limit": 10, "left": 0, "burn_5m": 500, "burn_1h": 500,
    }  # fmt: skip
    assert budget.reserve("b", {"cost_micro_usd": 1}, T0)
    assert not budget.reserve("c", {"cost_micro_usd": 0, "calls": 1}, T0)  # costs nothing


def test_time_is_a_budget_that_passes_by_itself_and_never_back() -> None:
    budget = account(Limit("wall_s", 60))
    assert not budget.reserve("a", {"calls": 1}, T0 + 59 * S)
    assert budget.reserve("b", {}, T0 + 60 * S)[0].metric == "wall_s"
    assert budget.reserve("c", {}, T0)[0].metric == "wall_s"
    assert budget.facts(T0)["wall_s"]["left"] == 0
    assert Account.decode(budget.encode()).reserve("d", {}, T0)


def test_the_facts_say_how_fast_it_goes() -> None:
    budget = account(Limit("calls", 100, 86_400))
    for minute in range(30):
        budget.charge({"calls": 2}, T0 + minute * 60 * S)
    facts = budget.facts(T0 + 30 * 60 * S)
    assert facts["calls"] == {
        "used": 60, "reserved": 0, "limit": 100, "left": 40, "burn_5m": 10, "burn_1h": 60, "window_s": 86_400,
    }  # fmt: skip


def test_only_metrics_with_a_limit_are_facts() -> None:
    budget = account(Limit("writes", 3))
    budget.charge({"calls": 7, "writes": 1}, T0)
    assert set(budget.facts(T0)) == {"writes"}


def test_facts_stay_within_what_every_reader_holds_exactly() -> None:
    budget = account(Limit("cost_micro_usd", MAX_AMOUNT))
    for _ in range(3):
        budget.charge({"cost_micro_usd": MAX_AMOUNT}, T0)
    facts = budget.facts(T0)["cost_micro_usd"]
    assert (facts["used"], facts["left"]) == (MAX_AMOUNT, 0)
    assert budget.reserve("a", {"cost_micro_usd": 1}, T0)


def test_too_many_calls_under_way_are_refused_not_forgotten() -> None:
    budget = account(max_reservations=2)
    for call in "ab":
        assert not budget.reserve(call, {"calls": 1}, T0)
    assert budget.reserve("c", {"calls": 1}, T0)[0].metric == "reservations"
    assert list(budget.reservations()) == ["a", "b"]


def test_a_limit_that_is_set_later_finds_what_was_used_and_promised_before() -> None:
    budget = account()
    budget.charge({"calls": 7}, T0)
    budget.reserve("a", {"calls": 1}, T0)
    limited = budget.resized([Limit("calls", 9)])
    assert (limited.facts(T0)["calls"]["used"], limited.facts(T0)["calls"]["reserved"]) == (7, 1)
    limited.settle("a", None, T0)
    assert limited.facts(T0)["calls"] | {"used": 8, "reserved": 0} == limited.facts(T0)["calls"]


def test_other_limits_keep_the_use() -> None:
    budget = account(Limit("calls", 10, 60), Limit("writes", 10))
    budget.charge({"calls": 4, "writes": 3}, T0)
    for limits in (
        [Limit("calls", 20, 60)],
        [Limit("calls", 4, 7200)],
        [Limit("calls", 4)],
        [Limit("calls", 4, 3600)],
    ):
        assert budget.resized(limits).facts(T0)["calls"]["used"] == 4
    without = budget.resized([])
    assert without.resized([Limit("writes", 3)]).reserve("a", {"writes": 1}, T0)


def test_a_session_that_follows_starts_with_the_use_and_with_what_is_held() -> None:
    budget = account(Limit("calls", 3))
    budget.charge({"calls": 1}, T0)
    budget.reserve("a", {"calls": 1}, T0)
    budget.hold("a")
    after = budget.carried()
    assert after.facts(T0) == budget.facts(T0)
    assert not after.reserve("b", {"calls": 1}, T0)
    assert after.reserve("c", {"calls": 1}, T0)
    assert budget.facts(T0)["calls"]["reserved"] == 1  # the two are apart


@pytest.mark.parametrize(
    "charges",
    [{"calls": -1}, {"calls": True}, {"calls": 1.0}, {"calls": MAX_AMOUNT + 1}, {"wall_s": 1}, {"call": 1}],
)
def test_a_charge_that_is_none_is_refused_not_ignored(charges: Any) -> None:
    budget = account(Limit("calls", 5))
    for step in (
        lambda: budget.reserve("a", charges, T0),
        lambda: budget.charge(charges, T0),
        lambda: Accounts([("session", budget)]).reserve("a", charges, T0),
    ):
        with pytest.raises(ValueError, match="charge"):
            step()
    assert budget.facts(T0)["calls"]["left"] == 5


@pytest.mark.parametrize(
    ("metric", "limit", "window_s"),
    [
        ("calls", -1, None),
        ("calls", True, None),
        ("calls", 2**53 + 1, None),
        ("calls", 1, 0),
        ("calls", 1, -5),
        ("wall_s", 5, 60),
        ("tokens", 5, None),
    ],
)
def test_a_limit_that_cannot_be_held_is_refused(metric: Any, limit: int, window_s: int | None) -> None:
    with pytest.raises(ValueError, match=f"'{metric}'"):
        Limit(metric, limit, window_s)


def test_two_limits_of_one_metric_are_refused() -> None:
    with pytest.raises(ValueError, match="two budgets of 'calls'"):
        account(Limit("calls", 1), Limit("calls", 2, 60))


# -- several accounts ---------------------------------------------------------------------------------


def test_a_childs_call_is_charged_to_all_above_it_and_stops_where_the_first_is_used_up() -> None:
    root, parent, child = account(Limit("calls", 2)), account(Limit("calls", 5)), account(Limit("calls", 5))
    agent, tenant = account(), account(Limit("cost_micro_usd", 10, 60))
    accounts = Accounts(
        [("session", child), ("tree", parent), ("tree", root), ("agent", agent), ("tenant", tenant)]
    )
    for call in "ab":
        assert not accounts.reserve(call, {"calls": 1, "cost_micro_usd": 5}, T0)
        assert accounts.settle(call, None, T0)
    refused = accounts.reserve("c", {"calls": 1, "cost_micro_usd": 1}, T0)
    assert [(item.scope, item.metric) for item in refused] == [
        ("tree", "calls"),
        ("tenant", "cost_micro_usd"),
    ]
    assert not any(item.reservations() for item in (root, parent, child, agent, tenant))
    assert accounts.facts(T0)["tree"]["calls"]["left"] == 0  # of two ancestors, the one with least left
    assert accounts.facts(T0)["session"]["calls"]["left"] == 3
    assert "agent" not in accounts.facts(T0)


def test_holding_and_releasing_reach_every_account() -> None:
    one, two = account(Limit("calls", 1)), account(Limit("calls", 1))
    accounts = Accounts([("session", one), ("agent", two)])
    accounts.reserve("a", {"calls": 1}, T0)
    assert accounts.hold("a")
    assert one.reservations() == two.reservations() == {"a": True}
    assert accounts.release("a")
    assert not accounts.release("a")
    assert not accounts.settle("a", None, T0)
    assert one.facts(T0) == two.facts(T0) and one.facts(T0)["calls"]["left"] == 1


def test_an_account_that_stands_twice_is_charged_once() -> None:
    one = account(Limit("calls", 1))
    accounts = Accounts([("session", one), ("tree", one)])
    assert not accounts.reserve("a", {"calls": 1}, T0)
    accounts.settle("a", None, T0)
    assert one.facts(T0)["calls"]["used"] == 1


# -- against a list of everything that happened -------------------------------------------------------

METRICS = ("calls", "writes", "cost_micro_usd")
amounts = st.dictionaries(st.sampled_from(METRICS), st.integers(0, 6), max_size=3)
calls = st.sampled_from([f"c{number}" for number in range(6)])
windows = st.sampled_from([None, 60, 600, 3600, 86_400])


class Budgets(RuleBasedStateMachine):
    """One account beside the list of charges, with a clock that may go back and restarts at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = T0
        self.seen = T0
        self.used: list[tuple[int, Mapping[str, int]]] = []
        self.promised: dict[str, Mapping[str, int]] = {}

    @initialize(limits=st.dictionaries(st.sampled_from(METRICS), st.tuples(st.integers(0, 30), windows)))
    def begin(self, limits: dict[Any, tuple[int, int | None]]) -> None:
        self.limits = {metric: Limit(metric, *limit) for metric, limit in limits.items()}
        self.account = Account(self.limits.values(), opened_ns=T0, max_reservations=4)

    def sum(self, metric: str) -> int:
        window_s = self.limits[metric].window_s
        if window_s is None:
            return sum(charges.get(metric, 0) for _, charges in self.used)
        width = window_s * S // 60
        now = self.seen // width
        return sum(charges.get(metric, 0) for at, charges in self.used if now - at // width <= 60)

    def reserved(self, metric: str) -> int:
        return sum(charges.get(metric, 0) for charges in self.promised.values())

    def time(self) -> int:
        self.seen = max(self.seen, self.now)
        return self.now

    @rule(seconds=st.integers(-7200, 7200))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds * S

    @rule(call=calls, charges=amounts)
    def reserve(self, call: str, charges: dict[str, int]) -> None:
        exceeded = self.account.reserve(call, charges, self.time())
        if call in self.promised:
            assert exceeded == ()
            return
        over = {
            metric
            for metric, amount in charges.items()
            if amount
            and metric in self.limits
            and self.sum(metric) + self.reserved(metric) + amount > self.limits[metric].limit
        }
        over |= {"reservations"} if len(self.promised) >= 4 else set()
        assert {item.metric for item in exceeded} == over
        if not exceeded:
            self.promised[call] = charges
            for metric, amount in charges.items():
                if amount and metric in self.limits:
                    assert self.sum(metric) + self.reserved(metric) <= self.limits[metric].limit

    @rule(call=calls, actual=st.none() | amounts)
    def settle(self, call: str, actual: dict[str, int] | None) -> None:
        assert self.account.settle(call, actual, self.time()) == (call in self.promised)
        if call in self.promised:
            self.used.append((self.seen, {**self.promised.pop(call), **(actual or {})}))

    @rule(call=calls)
    def release(self, call: str) -> None:
        assert self.account.release(call) == (call in self.promised)
        self.promised.pop(call, None)

    @rule(call=calls)
    def hold(self, call: str) -> None:
        assert self.account.hold(call) == (call in self.promised)

    @rule(charges=amounts)
    def charge(self, charges: dict[str, int]) -> None:
        self.account.charge(charges, self.time())
        self.used.append((self.seen, charges))

    @rule()
    def restart(self) -> None:
        saved = self.account.encode()
        self.account = Account.decode(msgspec.msgpack.decode(msgspec.msgpack.encode(saved)))
        assert self.account.encode() == saved

    @rule()
    def rotate(self) -> None:
        self.account = self.account.carried()

    @rule(metric=st.sampled_from(METRICS), limit=st.integers(0, 30))
    def resize(self, metric: str, limit: int) -> None:
        if metric in self.limits:
            self.limits[metric] = msgspec.structs.replace(self.limits[metric], limit=limit)
            self.account = self.account.resized(self.limits.values())

    @invariant()
    def the_sums_are_those_of_the_list(self) -> None:
        if not hasattr(self, "account"):
            return
        facts = self.account.facts(self.time())
        assert set(facts) == set(self.limits)
        for metric, fact in facts.items():
            used, reserved = self.sum(metric), self.reserved(metric)
            assert (fact["used"], fact["reserved"]) == (used, reserved)
            assert fact["left"] == max(0, self.limits[metric].limit - used - reserved)
            minute = self.seen // (60 * S)
            for burn, minutes in (("burn_5m", 5), ("burn_1h", 60)):
                assert fact[burn] == sum(
                    charges.get(metric, 0) for at, charges in self.used if minute - at // (60 * S) <= minutes
                )
        assert set(self.account.reservations()) == set(self.promised)


Budgets.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestBudgets = Budgets.TestCase
