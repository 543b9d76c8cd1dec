"""What the automata say of a call is what the formulas say over the whole trace."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.sessions.monitors import Event, Monitors, Note, State, read
from tests.sessions.monitors import whole_trace
from tests.sessions.monitors.whole_trace import S, Trace

TOOLS = {
    "shop/get": ("read", ()), "shop/update": ("reversible", ("write",)),
    "bank/pay": ("irreversible", ("money", "write")),
    "mail/send": ("irreversible", ("egress",)),
}  # fmt: skip
STATUSES = ("ok", "ok", "ok", "tool_error", "in_doubt", "failed", "not_sent")
KEYS = ("a", " A-", "b", 7, "7")


@st.composite
def matchers(draw: st.DrawFn, *, judged: bool = False, labels: bool = True) -> dict[str, Any]:
    members = {
        "tools": st.lists(st.sampled_from([*TOOLS, "shop/*", "bank/*", "*"]), min_size=1, max_size=2),
        "risks": st.lists(st.sampled_from(["read", "reversible", "irreversible"]), min_size=1, unique=True),
        "effects": st.lists(st.sampled_from(["write", "money", "egress"]), min_size=1, max_size=2),
    }  # fmt: skip
    if labels:
        members["labels"] = st.lists(st.sampled_from(["secret", "untrusted"]), min_size=1, unique=True)
    if not judged:
        members["status"] = st.lists(st.sampled_from(["ok", "tool_error", "failed"]), min_size=1, unique=True)
    chosen = draw(st.lists(st.sampled_from(sorted(members)), min_size=1, max_size=2, unique=True))
    return {name: draw(members[name]) for name in chosen}


@st.composite
def definitions(draw: st.DrawFn) -> dict[str, Any]:
    template = draw(st.sampled_from(sorted(whole_trace.TEMPLATES)))
    one, judged = matchers(), matchers(judged=True)
    by = {"by": draw(st.sampled_from([["/k"], ["/k", "/j"]]))} if draw(st.booleans()) else {}
    body: dict[str, Any] = {}
    if template in ("must_precede", "separation_of_actors", "within"):
        body = {"first": draw(one), "then": draw(judged)}
    elif template == "never_after":
        body = {"after": draw(one), "match": draw(judged)}
        by = {} if set(body["after"]) == {"labels"} else by
    elif template == "cannot_follow_without":
        body = {"after": draw(matchers(labels=False)), "match": draw(judged), "unless": draw(one)}
    elif template == "mutually_exclusive":
        body = {"sets": draw(st.lists(one, min_size=2, max_size=3))}
    else:
        body = {"match": draw(one)}
    if template == "within":
        body |= draw(
            st.sampled_from([{"calls": 1}, {"calls": 3}, {"seconds": 6}, {"calls": 4, "seconds": 12}])
        )
    if template in ("at_most_n", "rate_limit"):
        body["n"] = draw(st.integers(1, 4))
    if template == "rate_limit":
        body["per_s"] = draw(st.sampled_from([1, 6, 12, 36]))
    if template == "at_most_total":
        body |= {"amount": "/amount", "limit": draw(st.sampled_from([1, 10, 99.5]))}
    if template in ("at_most_n", "at_most_total") and draw(st.booleans()):
        body["within_s"] = draw(st.sampled_from([1, 6, 12, 36]))
    return {template: body | by}


def usable(definition: dict[str, Any]) -> bool:
    try:
        read({"monitors": {"m": definition}})
    except Exception:
        return False
    return True


@st.composite
def calls(draw: st.DrawFn) -> Event:
    """``at_ns`` is the time since the call before."""
    target = draw(st.sampled_from(sorted(TOOLS)))
    risk, effects = TOOLS[target]
    args: dict[str, Any] = {}
    for name in ("k", "j"):
        if draw(st.integers(0, 5)):
            args[name] = draw(st.sampled_from(KEYS))
    if draw(st.integers(0, 5)):
        args["amount"] = draw(
            st.sampled_from([0, 1, 2, 0.5, 50.25, "3.10", -1, True, 0.001, "many", 1e300, [1]])
        )
    return Event(
        at_ns=draw(st.sampled_from([-3 * S, 0, 1, S // 2, S, S, 5 * S, 6 * S, 12 * S, 13 * S])),
        target=target, risk=risk, effects=effects, args=args, actor=draw(st.sampled_from(["", "ann", "bob"])),
    )  # fmt: skip


@st.composite
def moves(draw: st.DrawFn) -> tuple[Event, str]:
    """A call, and how it ended: "" for one that was refused."""
    return draw(calls()), draw(st.sampled_from(("", *STATUSES)))


def content(encoded: dict[str, Any]) -> dict[str, list[str]]:
    """What is known, whatever the order it was heard in."""
    return {name: sorted(map(repr, said)) for name, (_, said) in encoded["cells"].items()}


def saved(monitors: Monitors, state: State) -> State:
    """As it comes back from a snapshot."""
    encoded = msgspec.msgpack.decode(msgspec.msgpack.encode(monitors.encode(state)))
    restored, dropped = monitors.decode(encoded)
    assert not dropped
    return restored


@settings(max_examples=600, deadline=None)
@given(
    st.lists(definitions().filter(usable), min_size=1, max_size=4),
    st.lists(
        st.tuples(moves(), st.booleans(), st.sets(st.sampled_from(["secret", "untrusted"]))), max_size=25
    ),
)
def test_every_verdict_is_that_of_the_whole_trace(
    chosen: list[dict[str, Any]], played: list[tuple[tuple[Event, str], bool, set[str]]]
) -> None:
    named = {f"m{number}": each for number, each in enumerate(chosen)}
    monitors = Monitors(read({"monitors": named}))
    state, trace = monitors.initial(), Trace()
    labels: set[str] = set()
    clock = 1_700_000_000 * S
    for (call, status), restart, gained in played:
        clock += call.at_ns
        event = msgspec.structs.replace(call, at_ns=clock, labels=tuple(sorted(labels)))
        expected = {name: whole_trace.violated(each, trace, event) for name, each in named.items()}
        before = monitors.encode(state)
        assert {each.name for each in monitors.judge(state, event)} == {n for n, v in expected.items() if v}
        facts = monitors.facts(state, event)
        assert {name: fact["violated"] for name, fact in facts.items()} == {
            name: verdict for name, verdict in expected.items() if verdict is not None
        }
        assert monitors.encode(state) == before, "judging is not committing"
        if status:
            labels |= gained if len(gained) == 1 and status == "ok" else set()
            done = msgspec.structs.replace(event, status=status, labels=tuple(sorted(labels)))
            note = msgspec.msgpack.decode(msgspec.msgpack.encode(monitors.note(done)), type=Note)
            changed = monitors.apply(state, note)
            trace.commit(done)
            assert changed or content(monitors.encode(state)) == content(before)
        if restart:
            state = saved(monitors, state)


@settings(max_examples=300, deadline=None)
@given(
    definitions().filter(usable).filter(lambda each: "by" in next(iter(each.values()))),
    st.lists(
        st.tuples(calls(), st.sampled_from(("", "ok", "ok", "in_doubt")), st.integers(0, 40)), max_size=40
    ),
)
def test_a_full_table_never_misses_a_violation(
    definition: dict[str, Any], played: list[tuple[Event, str, int]]
) -> None:
    """Two keys have room and many are used: what the formula calls a violation is still one."""
    (body,) = definition.values()
    monitors = Monitors(read({"monitors": {"m": {next(iter(definition)): body | {"keys": 2}}}}))
    state, trace = monitors.initial(), Trace()
    clock = 1_700_000_000 * S
    for call, status, key in played:
        clock += call.at_ns
        event = msgspec.structs.replace(call, at_ns=clock, args={**call.args, "k": key % 7})
        wrong = bool(monitors.judge(state, event))
        assert wrong or not whole_trace.violated(definition, trace, event)
        if status:
            done = msgspec.structs.replace(event, status=status)
            monitors.step(state, done)
            trace.commit(done)
            state = saved(monitors, state)


WINDOWS = st.sampled_from(
    [
        {"rate_limit": {"match": {"tools": ["*"]}, "n": 3, "per_s": 12}},
        {"at_most_n": {"match": {"tools": ["*"]}, "n": 3, "within_s": 12}},
        {"at_most_total": {"match": {"tools": ["*"]}, "amount": "/amount", "limit": 3, "within_s": 12}},
        {"within": {"first": {"tools": ["shop/get"]}, "then": {"tools": ["*"]}, "seconds": 12}},
        {"within": {"first": {"tools": ["shop/get"]}, "then": {"tools": ["*"]}, "calls": 3}},
    ]
)


@settings(max_examples=400, deadline=None)
@given(
    WINDOWS,
    st.lists(st.tuples(st.integers(-1, 26), st.sampled_from(["shop/get", "shop/update"])), max_size=20),
)
def test_a_window_ends_where_its_formula_says(
    definition: dict[str, Any], played: list[tuple[int, str]]
) -> None:
    """Half seconds around the ends of windows and of their slots."""
    monitors = Monitors(read({"monitors": {"m": definition}}))
    state, trace = monitors.initial(), Trace()
    clock = 1_700_000_000 * S
    for halves, target in played:
        clock += halves * S // 2
        event = Event(at_ns=clock, target=target, args={"amount": 1})
        assert bool(monitors.judge(state, event)) is whole_trace.violated(definition, trace, event)
        done = msgspec.structs.replace(event, status="ok")
        monitors.step(state, done)
        trace.commit(done)
