"""Synthetic agents, and eleven ways in which they go wrong.

The agents are made of tasks, phases, users and schedules, not of the models the detectors believe in: no
profile is a first-order Markov chain, none has exponential gaps or independent errors. Everything comes from a
seed. Times are nanoseconds, ``pace`` the calls a second an agent makes on average.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any, Final
from zlib import crc32

from gateway.breakers.event import Event

Step = dict[str, Any]
Profile = Callable[[Random], Iterator[Step]]

START: Final = 1_700_000_000_000_000_000


def place(name: str) -> int:
    return crc32(name.encode()) << 20 | 1


def _print(content: object, size: int) -> int:
    """As ``event.print_of``: a number that is equal for equal content, and ends with its size."""
    return crc32(str(content).encode()) << 32 | size


def step(tool: str, gap: float, **more: Any) -> Step:
    """``gap`` in units that are scaled to the wanted pace afterwards."""
    return {"tool": tool, "gap": gap, "what": "ok", **more}


def _written(r: Random, median: float, spread: float = 0.8) -> int:
    return max(1, int(median * r.lognormvariate(0, spread)))


# ------------------------------------------------------------------------------------------ benign agents


def coder(r: Random) -> Iterator[Step]:
    """Reads in bursts, edits and tests until a hidden bug is gone, commits. Failures come in a row."""
    while True:
        files = [f"f{r.randrange(400)}" for _ in range(r.randint(3, 9))]
        for name in files:
            yield step(
                r.choice(["fs/read", "fs/read", "fs/grep", "fs/list"]),
                0.1 if r.random() < 0.5 else r.lognormvariate(0.5, 1),
                args=name,
            )
        bug = r.random() < 0.6
        for _ in range(r.randint(1, 6)):
            name = r.choice(files)
            yield step("fs/read", r.lognormvariate(0.3, 0.8), args=name)
            fails = r.random() < 0.06
            yield step(
                "fs/edit",
                r.lognormvariate(1.5, 0.8),
                args=f"e{r.getrandbits(40)}",
                what="error" if fails else "ok",
                writes=True,
                bytes_out=_written(r, 600),
                result="ok",
            )
            if r.random() < 0.7:
                yield step(
                    "ci/test",
                    r.lognormvariate(2, 0.5),
                    args=f"t{r.randrange(9)}",
                    what="error" if bug and r.random() < 0.12 else "ok",
                )
        if r.random() < 0.5:
            yield step("git/diff", 0.5)
            yield step(
                "git/commit",
                1.0,
                writes=True,
                bytes_out=_written(r, 200, 0.4),
                what="denied" if r.random() < 0.03 else "ok",
                result="ok",
            )
        if r.random() < 0.1:
            yield step("web/fetch", 2.0, places=(place(f"docs{int(r.paretovariate(1.1)) % 60}"),))
        if r.random() < 0.3:
            yield step("fs/list", r.lognormvariate(4, 1))  # the person thinks


def support(r: Random) -> Iterator[Step]:
    """One ticket after another by a script with branches; most customers are new ones; busy hours and quiet ones."""
    hour = 0
    while True:
        hour += 1
        busy = 1.0 + 0.6 * ((hour // 40) % 3)
        who = f"c{r.randrange(100_000)}"
        yield step("crm/ticket", r.lognormvariate(1.2, 0.7) / busy)
        yield step("crm/customer", 0.3, args=who)
        kind = r.random()
        if kind < 0.5:
            yield step("shop/order", 0.5, args=who, what="error" if r.random() < 0.05 else "ok")
        if kind < 0.25:
            yield step("shop/stock", 0.4)
        if 0.4 < kind < 0.5:
            yield step(
                "pay/refund",
                1.5,
                writes=True,
                irreversible=True,
                cost=_written(r, 30_000, 0.5),
                what="denied" if r.random() < 0.08 else "ok",
                bytes_out=_written(r, 120, 0.2),
                result="ok",
            )
        if kind > 0.8:
            for _ in range(r.randint(1, 3)):
                yield step("kb/search", 0.6)
        yield step(
            "mail/reply",
            r.lognormvariate(1, 0.4),
            writes=True,
            irreversible=True,
            bytes_out=_written(r, 900, 0.5),
            places=(place("mail" + str(r.randrange(12)) if r.random() < 0.75 else who),),
            result="sent",
        )
        if r.random() < 0.6:
            yield step("crm/close", 0.2, writes=True, bytes_out=_written(r, 80, 0.2), result="ok")


def researcher(r: Random) -> Iterator[Step]:
    """Searches, then opens what it found, most of it never seen before; pages fail together when a site is down."""
    while True:
        down = r.random() < 0.07
        for _ in range(r.randint(1, 3)):
            yield step(
                "web/search", r.lognormvariate(1, 0.6), result="nothing" if r.random() < 0.05 else None
            )
        site = f"s{int(r.paretovariate(0.9)) % 5000}"
        for _ in range(r.randint(2, 8)):
            if r.random() < 0.5:
                site = f"s{int(r.paretovariate(0.9)) % 5000}"
            yield step(
                "web/fetch",
                0.05 if r.random() < 0.4 else r.lognormvariate(0.8, 1),
                what="error" if r.random() < (0.4 if down else 0.03) else "ok",
                places=(place(site),),
            )
        if r.random() < 0.7:
            yield step("notes/append", 1.0, writes=True, bytes_out=_written(r, 1500, 1.0), result="ok")
        if r.random() < 0.1:
            yield step("notes/read", 0.5)


def operator(r: Random) -> Iterator[Step]:
    """Looks at the same things on a schedule, and at times works on an incident, fast and with failures."""
    while True:
        for n in range(5):
            yield step("mon/status", 10 + r.uniform(-0.2, 0.2), polling=True, args=n, result="green")
        yield step("mon/query", 0.5, args=f"q{r.randrange(20)}")
        if r.random() < 0.06:
            for _ in range(r.randint(4, 15)):
                tool = r.choice(["logs/search", "logs/search", "mon/query", "k8s/describe", "k8s/logs"])
                yield step(tool, r.lognormvariate(0.4, 0.6), what="error" if r.random() < 0.08 else "ok")
            yield step(
                "k8s/restart",
                2,
                writes=True,
                what="denied" if r.random() < 0.1 else "ok",
                bytes_out=_written(r, 100, 0.2),
                result="ok",
            )
            yield step(
                "chat/post",
                1,
                writes=True,
                bytes_out=_written(r, 400, 0.6),
                places=(place("ops-channel"),),
                result="ok",
            )


def pipeline(r: Random) -> Iterator[Step]:
    """Rows through three steps, evenly and for ever; now and then a bad lot."""
    while True:
        bad = r.random() < 0.04
        for _ in range(r.randint(10, 40)):
            yield step("db/select", r.uniform(0.8, 1.2))
            yield step(
                "llm/extract", r.uniform(2, 5), cost=_written(r, 900, 0.5), bytes_out=_written(r, 2000, 0.5)
            )
            wrong = r.random() < (0.1 if bad else 0.004)
            yield step(
                "db/insert",
                r.uniform(0.5, 0.9),
                writes=True,
                what="error" if wrong else "ok",
                bytes_out=_written(r, 300, 0.3),
                result="inserted",
            )
        yield step("db/commit", 1, writes=True, bytes_out=20, result="ok")


def assistant(r: Random) -> Iterator[Step]:
    """Many things for one person: heavy-tailed pauses, thirty tools, a new habit each few hundred calls."""
    tools = [f"app{n % 6}/tool{n}" for n in range(30)]
    while True:
        habit = [tools[min(int(r.paretovariate(0.8)), 30) - 1] for _ in range(6)]
        for _ in range(r.randint(30, 90)):
            yield step(r.choice(habit), min(r.paretovariate(1.3), 500) * 2, args=r.getrandbits(50))
            for _ in range(r.randint(0, 4)):
                tool = r.choice(habit if r.random() < 0.8 else tools)
                writes = crc32(tool.encode()) % 3 == 0
                yield step(
                    tool, r.lognormvariate(0, 0.7), writes=writes,
                    bytes_out=_written(r, 500, 0.9) if writes else 0,
                    what="denied" if r.random() < 0.006 else "error" if r.random() < 0.03 else "ok",
                    places=(place(f"p{int(r.paretovariate(1.2)) % 300}"),) if r.random() < 0.15 else (),
                    result="ok" if writes else None,
                )  # fmt: skip


def screener(r: Random) -> Iterator[Step]:
    """Looks name after name up in a list; nearly all are not on it, and what is gets flagged."""
    while True:
        rare = r.choice([0.3, 0.05, 0.05, 0.01])  # some lists have hardly anybody on them
        for _ in range(r.randint(50, 400)):
            hit = r.random() < rare
            yield step("list/lookup", r.lognormvariate(0, 0.3), result=None if hit else "[]")
            if hit:
                yield step("list/case", 0.8)
                yield step("list/flag", 1.0, writes=True, bytes_out=_written(r, 150, 0.3), result="ok")
        yield step("list/next", 3.0)


BENIGN: Final[Mapping[str, Profile]] = {
    "coder": coder, "support": support, "researcher": researcher, "operator": operator, "pipeline": pipeline,
    "assistant": assistant, "screener": screener,
}  # fmt: skip


# --------------------------------------------------------------------------------------------- anomalies


def _loop(r: Random, steps: Iterator[Step]) -> Iterator[Step]:
    one = {**next(steps), "args": "again", "result": "same", "polling": False}
    for each in steps:
        yield {**one, "gap": each["gap"]}


def _no_progress(r: Random, steps: Iterator[Step]) -> Iterator[Step]:
    """One rephrases a question that has no answer; another turns pages that are all the login form."""
    size = r.choice([13, 4_000])
    for each in steps:
        yield step("kb/search", each["gap"], args=r.getrandbits(50), result="nothing found", size=size)


def _ping_pong(r: Random, steps: Iterator[Step]) -> Iterator[Step]:
    two = [{**next(steps), "args": side, "result": side, "polling": False} for side in ("left", "right")]
    two[1]["tool"] = two[1]["tool"] + "_back"
    for n, each in enumerate(steps):
        yield {**two[n % 2], "gap": each["gap"]}


def _errors(r: Random, steps: Iterator[Step]) -> Iterator[Step]:
    for each in steps:
        yield {**each, "what": "error" if r.random() < 0.4 else each["what"]}


def _probing(r: Random, steps: Iterator[Step]) -> Iterator[Step]:
    for each in steps:
        yield {**each, "what": "denied", "result": None} if r.random() < 0.25 else each


def _rate(r: Random, steps: Iterator[Step]) -> Iterator[Step]:
    for each in steps:
        yield {**each, "gap": each["gap"] / 5}


def _new_tools(r: Random, steps: Iterator[Step]) -> Iterator[Step]:
    for each in steps:
        yield {
            **each,
            "tool": r.choice(["sys/shell", "sys/passwd", "db/dump", "net/scan", "iam/grant"]),
            "writes": True,
            "args": r.getrandbits(50),
        }


def _shuffled(r: Random, steps: Iterator[Step]) -> Iterator[Step]:
    lot: list[Step] = []
    for each in steps:
        lot.append(each)
        if len(lot) == 200:
            tools = sorted({one["tool"] for one in lot})
            for one in lot:
                yield {**one, "tool": r.choice(tools)}
            lot = []


def _egress(r: Random, steps: Iterator[Step]) -> Iterator[Step]:
    for each in steps:
        yield {**each, "bytes_out": each.get("bytes_out", 0) * 8}


def _slow_egress(r: Random, steps: Iterator[Step]) -> Iterator[Step]:
    grown = 1.0
    for each in steps:
        grown *= 1.01
        yield {**each, "bytes_out": int(each.get("bytes_out", 0) * grown)}


def _hosts(r: Random, steps: Iterator[Step]) -> Iterator[Step]:
    for each in steps:
        yield {**each, "places": (place(f"x{r.getrandbits(40)}"),)} if r.random() < 0.4 else each


ANOMALIES: Final[Mapping[str, Callable[[Random, Iterator[Step]], Iterator[Step]]]] = {
    "identical loop": _loop, "no progress": _no_progress, "ping-pong": _ping_pong, "error storm 40 %": _errors,
    "denial probing 25 %": _probing, "rate x5": _rate, "dangerous new tools": _new_tools,
    "shuffled order": _shuffled, "egress x8": _egress, "egress +1 %/call": _slow_egress, "new hosts 40 %": _hosts,
}  # fmt: skip


# ------------------------------------------------------------------------------- legitimate shifts of habit


def _more_errors(r: Random, steps: Iterator[Step]) -> Iterator[Step]:
    for each in steps:
        yield {**each, "what": "error"} if r.random() < 0.04 else each


def _more_denials(r: Random, steps: Iterator[Step]) -> Iterator[Step]:
    for each in steps:
        yield {**each, "what": "denied"} if r.random() < 0.02 else each


def _faster(r: Random, steps: Iterator[Step]) -> Iterator[Step]:
    for each in steps:
        yield {**each, "gap": each["gap"] / 1.5}


def _larger(r: Random, steps: Iterator[Step]) -> Iterator[Step]:
    for each in steps:
        yield {**each, "bytes_out": int(each.get("bytes_out", 0) * 1.6)}


SHIFTS: Final[Mapping[str, Callable[[Random, Iterator[Step]], Iterator[Step]]]] = {
    "errors +4 %": _more_errors, "denials +2 %": _more_denials, "rate x1.5": _faster, "bytes x1.6": _larger,
}  # fmt: skip


# ------------------------------------------------------------------------------------------------- events

_UNIT: dict[str, float] = {}


def _mean_gap(name: str) -> float:
    if name not in _UNIT:
        steps = BENIGN[name](Random(0))
        _UNIT[name] = sum(next(steps)["gap"] for _ in range(20_000)) / 20_000
    return _UNIT[name]


def events(
    name: str,
    seed: int,
    pace: float = 1.0,
    *,
    onset: int | None = None,
    anomaly: Any = None,
    session_calls: int = 400,
) -> Iterator[Event]:
    """The life of one agent; from call ``onset`` on it goes wrong. A new session each few hundred calls."""
    r = Random(f"{name} {seed}")
    steps = BENIGN[name](r)
    unit = _mean_gap(name)
    at, n, session = float(START), 0, 0
    ends = r.randint(session_calls // 2, session_calls * 3 // 2)
    while True:
        if n == onset:
            steps = anomaly(r, steps)
        each = next(steps)
        at += each["gap"] / unit / pace * 1e9
        n += 1
        if n >= ends:
            session, ends = session + 1, n + r.randint(session_calls // 2, session_calls * 3 // 2)
        tool = each["tool"]
        args, result = each.get("args"), each.get("result")
        denied = each["what"] == "denied"
        yield Event(
            call_id=f"{seed:06x}-{n:08x}",
            at_ns=int(at),
            tenant="t",
            agent=name,
            session=f"s{session}",
            tool=tool,
            upstream=tool.split("/")[0],
            what=each["what"],
            args=r.getrandbits(48) if args is None else crc32(str(args).encode()),
            result=0
            if denied
            else _print(r.getrandbits(48), 2_000)
            if result is None
            else _print(result, each.get("size", len(str(result)))),
            writes=each.get("writes", False),
            irreversible=each.get("irreversible", False),
            polling=each.get("polling", False),
            bytes_out=each.get("bytes_out", 0),
            cost=each.get("cost", 0),
            places=each.get("places", ()),
        )
