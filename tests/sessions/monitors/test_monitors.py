"""What a policy may rely on: nothing is committed by judging, nothing is refilled, nothing grows."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from gateway.sessions.monitors import Event, Monitors, State, read
from tests.sessions.monitors.bench_monitors import DEFINITIONS, per_call

S = 1_000_000_000
NOW = 1_700_000_000 * S


def monitors(**definitions: Any) -> Monitors:
    return Monitors(read({"monitors": {name.replace("_", "-"): each for name, each in definitions.items()}}))


def call(target: str, at_s: float = 0, **more: Any) -> Event:
    return Event(at_ns=NOW + int(at_s * S), target=target, **more)


def done(event: Event, status: str = "ok", **more: Any) -> Event:
    return msgspec.structs.replace(event, status=status, **more)


def why(all_of_them: Monitors, state: State, event: Event) -> list[str]:
    return [violation.why for violation in all_of_them.judge(state, event)]


READ_FIRST = {
    "must_precede": {"first": {"tools": ["shop/get"]}, "then": {"tools": ["shop/update"]}, "by": ["/order"]}
}
ONCE = {"at_most_n": {"match": {"tools": ["shop/update"]}, "n": 1}}


# -- committing ---------------------------------------------------------------------------------------------


def test_a_refused_call_does_not_advance_a_monitor() -> None:
    some = monitors(once=ONCE)
    state = some.initial()
    for _ in range(5):
        assert not some.judge(state, call("shop/update"))
    assert some.step(state, done(call("shop/update")))
    assert why(some, state, call("shop/update")) == ["limit_reached"]


def test_a_read_that_failed_is_no_read() -> None:
    some = monitors(first=READ_FIRST)
    state = some.initial()
    order = {"order": "1"}
    for status in ("tool_error", "failed", "in_doubt", "withheld", "unobserved"):
        assert not some.step(state, done(call("shop/get", args=order), status))
        assert why(some, state, call("shop/update", args=order)) == ["not_preceded"]
    some.step(state, done(call("shop/get", args=order)))
    assert not some.judge(state, call("shop/update", args=order))


def test_a_call_whose_outcome_is_unknown_counts_and_one_that_was_never_sent_does_not() -> None:
    some = monitors(once=ONCE)
    state = some.initial()
    assert not some.step(state, done(call("shop/update"), "not_sent"))
    assert not some.step(state, done(call("shop/update"), "failed"))
    assert not some.judge(state, call("shop/update"))
    assert some.step(state, done(call("shop/update"), "in_doubt"))
    assert some.judge(state, call("shop/update"))


def test_two_calls_at_once_are_no_way_around_a_limit_of_one() -> None:
    some = monitors(once=ONCE, first=READ_FIRST)
    state = some.initial()
    under_way = some.note(call("shop/update", args={"order": "1"}))
    assert "limit_reached" in why(some, state, call("shop/update")) or some.judge(state, call("shop/update"))
    found = {v.name: v.why for v in some.judge(state, call("shop/update", args={"order": "1"}), [under_way])}
    assert found == {"once": "limit_reached", "first": "not_preceded"}
    assert some.encode(state) == some.encode(some.initial()), "looking ahead leaves the state alone"


def test_a_read_under_way_is_not_yet_a_read() -> None:
    some = monitors(first=READ_FIRST)
    reading = some.note(call("shop/get", args={"order": "1"}))
    assert why(some, some.initial(), call("shop/update", args={"order": "1"}))
    assert some.judge(some.initial(), call("shop/update", args={"order": "1"}), [reading])


def test_the_journal_needs_no_argument_to_repeat_a_step() -> None:
    some = monitors(first=READ_FIRST)
    state = some.initial()
    note = some.note(done(call("shop/get", args={"order": "DE89 3704 0044"})))
    written = msgspec.json.encode(note)
    assert b"3704" not in written
    some.apply(state, msgspec.json.decode(written, type=type(note)))
    assert not some.judge(state, call("shop/update", args={"order": "DE89 3704 0044"}))


def test_calls_that_bring_the_end_of_a_permission_nearer_must_be_durable() -> None:
    """A count that is lost in a crash would let a call through later than it may."""
    some = monitors(soon={"within": {"first": {"tools": ["a/a"]}, "then": {"tools": ["a/b"]}, "calls": 2}})
    state = some.initial()
    assert not some.step(state, done(call("x/x")))
    assert some.step(state, done(call("a/a")))
    assert not some.judge(state, call("a/b"))
    moved = [some.step(state, done(call("x/x"))) for _ in range(5)]
    assert moved == [True, True, True, False, False]
    assert why(some, state, call("a/b")) == ["too_late"]


# -- what a call is about -----------------------------------------------------------------------------------


def test_a_key_is_the_same_however_a_whole_number_is_written() -> None:
    some = monitors(once={"at_most_n": {"match": {"tools": ["shop/update"]}, "n": 1, "by": ["/order"]}})
    state = some.initial()
    some.step(state, done(call("shop/update", args={"order": 7})))
    assert some.judge(state, call("shop/update", args={"order": 7.0}))
    assert not some.judge(state, call("shop/update", args={"order": 8}))


@pytest.mark.parametrize(
    "spelt", ["de89 3704 0044", "DE89-3704-0044", "\tDE8937040044", "ＤＥ89３７０４0044"]
)
def test_another_spelling_is_no_way_around_what_one_has_used(spelt: str) -> None:
    some = monitors(
        paid=PAID,
        first={
            "must_precede": {
                "first": {"tools": ["bank/check"]},
                "then": {"tools": ["bank/pay"]},
                "by": ["/iban"],
            }
        },
    )
    state = some.initial()
    some.step(state, done(pay(100, "DE8937040044")))
    some.step(state, done(call("bank/check", args={"iban": "DE8937040044"})))
    assert [v.name for v in some.judge(state, pay(1, "DE8937040044"))] == ["paid"]
    found = {v.name for v in some.judge(state, pay(1, spelt))}
    assert found == {"paid", "first"}, "and what was checked is exactly what was checked"


def test_a_call_without_its_key_is_refused_wherever_it_would_help() -> None:
    some = monitors(
        first=READ_FIRST,
        once={"at_most_n": {"match": {"tools": ["shop/update"]}, "n": 1, "by": ["/order"]}},
        never={
            "never_after": {
                "after": {"tools": ["shop/close"]},
                "match": {"tools": ["shop/update"]},
                "by": ["/order"],
            }
        },
    )
    state = some.initial()
    some.step(state, done(call("shop/get", args={})))
    assert sorted(why(some, state, call("shop/update"))) == ["no_key", "not_preceded"]
    some.step(state, done(call("shop/close", args={"order": "1"})))
    assert sorted(why(some, state, call("shop/update"))) == ["after", "no_key", "not_preceded"]
    some.step(state, done(call("shop/close")))
    assert "after" in why(some, state, call("shop/update", args={"order": "another"}))


def test_tools_may_name_the_same_key_otherwise() -> None:
    some = monitors(
        first={
            "must_precede": {
                "first": {"tools": ["shop/get"], "by": ["/id"]},
                "then": {"tools": ["shop/*"], "risks": ["reversible"]},
                "by": ["/order"],
            }
        }
    )
    state = some.initial()
    some.step(state, done(call("shop/get", args={"id": "1"}, risk="read")))
    assert not some.judge(state, call("shop/update", args={"order": "1"}, risk="reversible"))
    assert some.judge(state, call("shop/update", args={"order": "2"}, risk="reversible"))


def test_an_argument_of_an_odd_shape_does_not_slip_through_a_condition() -> None:
    some = monitors(
        never={
            "never_after": {
                "after": {"tools": ["a/a"]},
                "match": {
                    "tools": ["mail/send"],
                    "arguments": {"/to": {"matches": "@evil"}, "/kind": {"equals": 1}},
                },
            }
        }
    )
    state = some.initial()
    some.step(state, done(call("a/a")))
    for args, wrong in (
        ({"to": "x@evil.com", "kind": 1}, True),
        ({"to": ["x@evil.com"], "kind": 1.0}, True),
        ({"to": "x@evil.com", "kind": True}, False),
        ({"to": "x@good.com", "kind": 1}, False),
        ({"kind": 1}, False),
    ):
        assert bool(some.judge(state, call("mail/send", args=args))) is wrong, args


def test_a_star_at_the_end_covers_the_rest_of_a_name() -> None:
    some = monitors(never={"at_most_n": {"match": {"tools": ["git/push*", "a*/x_*_y"]}, "n": 1}})
    for target, about in (
        ("git/push", True),
        ("git/push/force", True),
        ("git/pull", False),
        ("other/git/push", False),
        ("ab/x_1_y", True),
        ("ab/x_1/2_y", False),
        ("a/b/x_1_y", False),
        ("git/push\nx", True),
    ):
        assert bool(some.facts(some.initial(), call(target))) is about, target


# -- time ---------------------------------------------------------------------------------------------------


def test_a_clock_that_goes_back_empties_no_window() -> None:
    some = monitors(
        two={"at_most_n": {"match": {"tools": ["*"]}, "n": 1, "within_s": 60}},
        rate={"rate_limit": {"match": {"tools": ["*"]}, "n": 1, "per_s": 60}},
        soon={"within": {"first": {"tools": ["a/a"]}, "then": {"tools": ["a/b"]}, "seconds": 5}},
    )
    state = some.initial()
    some.step(state, done(call("a/a", 100)))
    assert not {"limit_reached"} - set(why(some, state, call("a/b", -100_000)))
    some.step(state, done(call("a/c", 200)))
    assert "too_late" in why(some, state, call("a/b", 101)), "it is 200 already"


def test_a_window_lets_go_of_what_is_older() -> None:
    some = monitors(two={"at_most_n": {"match": {"tools": ["*"]}, "n": 2, "within_s": 60}})
    state = some.initial()
    for second in (0, 30):
        some.step(state, done(call("a/a", second)))
    assert some.judge(state, call("a/a", 59.9))
    assert not some.judge(state, call("a/a", 60))
    assert some.facts(state, call("a/a", 60))["two"] == {"violated": False, "count": 1, "left": 1}


# -- amounts ------------------------------------------------------------------------------------------------

PAID = {
    "at_most_total": {"match": {"tools": ["bank/pay"]}, "amount": "/amount", "limit": 100, "by": ["/iban"]}
}


def pay(amount: Any, iban: str = "x") -> Event:
    return call("bank/pay", args={"amount": amount, "iban": iban})


def test_amounts_add_up_to_the_cent() -> None:
    some = monitors(paid=PAID)
    state = some.initial()
    for _ in range(3):
        some.step(state, done(pay(33.10)))
    assert not some.judge(state, pay("0.70"))
    assert why(some, state, pay(0.71)) == ["limit_reached"]
    assert some.facts(state, pay(0.7))["paid"] == {"violated": False, "count": 99.3, "left": 0.7}
    assert not some.judge(state, pay(100, "another"))


@pytest.mark.parametrize(
    "amount", [-1, -0.01, True, None, "many", "1e9", "", [1], {"value": 1}, 0.001, 1e300, 2**63, "１"]
)
def test_an_amount_that_cannot_be_counted_violates_and_never_refills(amount: Any) -> None:
    some = monitors(paid=PAID)
    state = some.initial()
    assert why(some, state, pay(amount)) == ["unreadable_amount"]
    some.step(state, done(pay(amount)))
    assert why(some, state, pay(1)) == ["limit_reached"]
    assert why(some, state, pay(0)) == ["limit_reached"]


# -- tables that are full -----------------------------------------------------------------------------------


def test_many_other_keys_do_not_refill_what_one_has_used() -> None:
    once = {"at_most_n": {"match": {"tools": ["a/a"]}, "n": 1, "by": ["/k"], "keys": 4}}
    some = monitors(once=once)
    state = some.initial()
    for key in range(100):
        some.step(state, done(call("a/a", args={"k": key})))
    assert all(some.judge(state, call("a/a", args={"k": key})) for key in range(100))
    assert some.judge(state, call("a/a", args={"k": "new"})), "what finds no seat is counted together"


def test_many_other_keys_make_a_forgotten_read_no_read() -> None:
    some = monitors(first={"must_precede": {**READ_FIRST["must_precede"], "keys": 4}})
    state = some.initial()
    for key in range(10):
        some.step(state, done(call("shop/get", args={"order": key})))
    wrong = [key for key in range(10) if some.judge(state, call("shop/update", args={"order": key}))]
    assert wrong == [0, 1, 2, 3, 4, 5]


def test_more_than_four_actors_are_everybody() -> None:
    some = monitors(
        apart={
            "separation_of_actors": {
                "first": {"tools": ["pr/open"]},
                "then": {"tools": ["pr/merge"]},
                "by": ["/pr"],
            }
        }
    )
    state = some.initial()
    for actor in "abcd":
        some.step(state, done(call("pr/open", args={"pr": 1}, actor=actor)))
    merge = call("pr/merge", args={"pr": 1}, actor="z")
    assert not some.judge(state, merge)
    some.step(state, done(call("pr/open", args={"pr": 1}, actor="e")))
    assert why(some, state, merge) == ["same_actor"]


def test_the_state_stays_within_what_was_promised() -> None:
    """Every table full, with the largest numbers there are."""
    by = {"by": ["/k"]}
    every = {"match": {"tools": ["*"]}}
    some = monitors(
        a={"must_precede": {"first": {"tools": ["*"]}, "then": {"risks": ["read"]}, **by}},
        b={"at_most_n": {**every, "n": 64, "within_s": 3600, **by}},
        c={"at_most_total": {**every, "amount": "/v", "limit": 1, **by}},
        d={"at_most_total": {**every, "amount": "/v", "limit": 1, "within_s": 3600, **by}},
        e={"rate_limit": {**every, "n": 1, "per_s": 3600, **by}},
        f={"separation_of_actors": {"first": {"tools": ["*"]}, "then": {"risks": ["read"]}, **by}},
        g={
            "within": {"first": {"tools": ["*"]}, "then": {"risks": ["read"]}, "calls": 9, "seconds": 9, **by}
        },
        h={"mutually_exclusive": {"sets": [{"tools": ["*"]}, {"risks": ["read"]}], **by}},
    )
    state = some.initial()
    for number in range(3_000):
        event = call("a/a", number * 7, args={"k": number % 300, "v": "x"}, actor=f"agent-{number % 3}")
        some.step(state, done(event))
    encoded = len(msgspec.msgpack.encode(some.encode(state)))
    promised = sum(monitor.automaton.size() + 96 for monitor in some.monitors)
    assert 6_000 < encoded <= promised <= 16 * 1024


# -- facts --------------------------------------------------------------------------------------------------


def test_facts_are_few_and_hold_the_worst() -> None:
    never = {"never_after": {"after": {"tools": ["a/a"]}, "match": {"tools": ["a/b"]}}}
    every = {
        f"m{n}": {**never, "on_violation": kind, "message": "m" * 300, "remedy": "r" * 300}
        for n, kind in enumerate(["warn"] * 10 + ["escalate"] * 10 + ["deny"] * 3 + ["nothing"] * 8)
    }
    some = monitors(**every)
    state = some.initial()
    some.step(state, done(call("a/a")))
    facts = some.facts(state, call("a/b"))
    assert len(facts) == 16
    assert len(msgspec.json.encode(facts)) < 4_000
    said = [fact["on_violation"] for fact in facts.values()]
    # Of ten that would ask a person five have room: what is left out must not be what nobody was asked.
    assert (said.count("nothing"), said.count("deny"), said.count("escalate")) == (8, 8, 0)


def test_facts_say_what_is_left_and_nothing_of_other_tools() -> None:
    some = monitors(
        once={**ONCE, "remedy": "wait"}, other={"at_most_n": {"match": {"tools": ["x/x"]}, "n": 1}}
    )
    state = some.initial()
    assert some.facts(state, call("shop/update")) == {"once": {"violated": False, "count": 0, "left": 1}}
    some.step(state, done(call("shop/update")))
    assert some.facts(state, call("shop/update")) == {
        "once": {
            "violated": True,
            "count": 1,
            "left": 0,
            "why": "limit_reached",
            "on_violation": "deny",
            "message": "at most 1 calls of shop/update",
            "remedy": "wait",
        }
    }
    assert some.facts(state, call("shop/get")) == {}


def test_a_label_speaks_at_once_and_only_against_what_is_meant() -> None:
    some = monitors(
        secret={"never_after": {"after": {"labels": ["secret"]}, "match": {"effects": ["egress"]}}}
    )
    state = some.initial()
    send = call("mail/send", effects=("egress",))
    assert not some.judge(state, send)
    assert some.judge(state, msgspec.structs.replace(send, labels=("secret",)))
    assert not some.facts(state, call("a/read", labels=("secret",)))
    some.step(state, done(call("a/read"), labels=("secret",)))
    assert some.judge(state, send), "it came before, whatever is said now"


# -- snapshots ----------------------------------------------------------------------------------------------


def test_another_definition_drops_its_own_state_and_says_so() -> None:
    before = monitors(once=ONCE, first=READ_FIRST, gone=ONCE)
    state = before.initial()
    some_read = done(call("shop/get", args={"order": "1"}))
    before.step(state, some_read)
    before.step(state, done(call("shop/update", args={"order": "1"})))
    changed = {"at_most_n": {"match": {"tools": ["shop/update", "shop/get"]}, "n": 1}}
    after = monitors(once=changed, first=READ_FIRST, fresh=ONCE)
    restored, dropped = after.decode(before.encode(state))
    assert dropped == ("gone", "once")
    assert {v.name for v in after.judge(restored, call("shop/update", args={"order": "1"}))} == set()
    assert not before.apply(restored, after.note(call("x/x")))


def test_another_limit_or_message_keeps_what_was_counted() -> None:
    before = monitors(once=ONCE)
    state = before.initial()
    before.step(state, done(call("shop/update")))
    after = monitors(
        once={"at_most_n": {**ONCE["at_most_n"], "n": 3}, "message": "three", "on_violation": "warn"}
    )
    restored, dropped = after.decode(before.encode(state))
    assert dropped == ()
    assert after.facts(restored, call("shop/update"))["once"]["left"] == 2


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"now": 1},
        {"now": 1, "calls": 1, "cells": []},
        {"now": 1, "calls": 1, "cells": {"once": 3}},
        {"now": "x", "calls": 1, "cells": {}},
        {"now": 1, "calls": 1, "cells": {"once": ["REV", 5]}},
        {"now": 1, "calls": 1, "cells": {"once": ["REV", [0, "key"]]}},
    ],
)
def test_what_is_no_state_is_refused(value: dict[str, Any]) -> None:
    some = monitors(once=ONCE)
    text = msgspec.json.encode(value).replace(b"REV", some.monitors[0].revision.encode())
    with pytest.raises(ValueError, match=r"state|int"):
        some.decode(msgspec.json.decode(text))


# -- cost ---------------------------------------------------------------------------------------------------


def test_the_hundred_thousandth_call_costs_what_the_tenth_did() -> None:
    some = Monitors(read({"monitors": DEFINITIONS}))
    state = some.initial()
    per_call(some, state, 0, 500)
    early = min(per_call(some, state, 500 + n * 500, 500) for n in range(4))
    per_call(some, state, 5_000, 90_000)
    late = min(per_call(some, state, 95_000 + n * 500, 500) for n in range(4))
    assert late < 2 * early + 5
    assert len(msgspec.msgpack.encode(some.encode(state))) < 4_096


def test_judging_looks_only_at_monitors_of_the_tool() -> None:
    few = {f"m{n}": {"at_most_n": {"match": {"tools": [f"up{n}/x"]}, "n": 1}} for n in range(2)}
    many = {f"m{n}": {"at_most_n": {"match": {"tools": [f"up{n}/x"]}, "n": 1}} for n in range(60)}

    def cost(definitions: dict[str, Any]) -> float:
        some = monitors(**definitions)
        state, event = some.initial(), call("up1/x")
        some.judge(state, event)
        best = 1e9
        for _ in range(5):
            begun = time.process_time_ns()
            for _ in range(500):
                some.judge(state, event)
            best = min(best, time.process_time_ns() - begun)
        return best

    assert cost(many) < 2 * cost(few)
