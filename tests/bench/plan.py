"""The experiments of one benchmark, in order.

1 load       relay, read and write tool, starter and strict pack, at 1, 16 and 64 connections
2 pace       the same calls at half load, of the gateway and of the relay: what is added while nobody queues
3 tools      10 against 10,000 tools known; and, with 10,000, calls that no memo has seen before
4 modules    10 against 1,000 policy modules loaded, the same ones in scope
5 memory     of a gateway that knows 1,000 tools
6 stages     where the time of a call goes
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from tests.bench import profiling, report, servers, stages, wardgate
from tests.bench.load import Job
from tests.bench.report import Report
from tests.bench.rounds import Rounds, interleaved
from tests.bench.servers import Server
from tests.bench.stages import Budget
from tests.bench.upstream import tool_name
from tests.bench.wardgate import Setup

READ = (tool_name("lookup", 0),)
WRITE = (tool_name("update", 0),)
MAIN = 16  # connections of the figures that are promised


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    rounds: int
    calls: int  # of one contender in one round
    connections: tuple[int, ...] = (1, 16, 64)
    few: int = 10
    many_tools: int = 10_000
    many_modules: int = 1_000
    memory_tools: int = 1_000
    stage_calls: int = 1_000


FULL = Size(rounds=5, calls=1_500)
QUICK = Size(rounds=2, calls=600, connections=(16,), many_tools=2_000, many_modules=200, stage_calls=400)
TINY = Size(
    rounds=1, calls=40, connections=(16,), many_tools=50, many_modules=20, memory_tools=20, stage_calls=32
)


def run(size: Size, work: Path, say: Callable[[str], None]) -> Report:
    """Run all of it; ``work`` is a folder for databases, policies and logs."""
    with ExitStack() as stack:
        upstream = stack.enter_context(servers.upstream(work, size.few))
        relay = stack.enter_context(servers.relay(work, upstream))
        starter = stack.enter_context(wardgate.serving(Setup(name="starter"), upstream, work))
        strict = stack.enter_context(wardgate.serving(Setup(name="strict", pack="strict"), upstream, work))
        empty = stack.enter_context(servers.empty(work))
        loads: dict[int, Rounds] = {}
        for connections in size.connections:
            say(f"load at {connections} connections")
            contenders = {
                "relay": _job(relay, READ, size, connections),
                "starter, read": _job(starter, READ, size, connections),
                "starter, write": _job(starter, WRITE, size, connections),
            }
            if connections == MAIN:
                contenders |= {
                    "strict, read": _job(strict, READ, size, connections),
                    "strict, write": _job(strict, WRITE, size, connections),
                    "empty server": _job(empty, READ, size, connections),
                }
            loads[connections] = interleaved(contenders, size.rounds)
        main = loads[MAIN]

        paced: dict[str, Rounds] = {}
        for whose in ("relay", "starter, read"):
            say(f"at half of the pace of: {whose}")
            pace = main.spread(whose, "calls_per_s").median / 2
            paced[whose] = interleaved(
                {
                    name: msgspec.structs.replace(_job(server, READ, size, MAIN), rate=pace)
                    for name, server in (("relay", relay), ("starter, read", starter))
                },
                size.rounds,
            )

        say(f"{size.many_tools} tools")
        with (
            _knowing(size.many_tools, "starter", work) as many,
            _knowing(size.many_tools, "strict", work) as listed,
        ):
            names = tuple(tool_name("lookup", number) for number in range(size.many_tools // 2))
            tools = interleaved(
                {
                    "few tools": _job(starter, READ, size, MAIN),
                    "many tools": _job(many, READ, size, MAIN),
                    "strict, memo hits": _job(listed, READ, size, MAIN),
                    # More tools in turn than a memo keeps answers for.
                    "strict, memo misses": _job(listed, names, size, MAIN),
                },
                size.rounds,
            )

        say(f"{size.many_modules} modules")
        with (
            wardgate.serving(Setup(name="modules-few", modules=size.few), upstream, work) as few,
            wardgate.serving(Setup(name="modules-many", modules=size.many_modules), upstream, work) as loaded,
        ):
            modules = interleaved(
                {"few modules": _job(few, READ, size, MAIN), "many modules": _job(loaded, READ, size, MAIN)},
                size.rounds,
            )

        say("memory")
        with _knowing(size.memory_tools, "starter", work) as known:
            servers.load(_job(known, READ, size, MAIN))
            rss_mb = known.rss_mb

        say("stages")
        budget = stages.budget(upstream, work, size.stage_calls)

    return _report(size, loads, paced, tools, modules, rss_mb, budget)


def _job(server: Server, tools: tuple[str, ...], size: Size, connections: int) -> Job:
    return Job(
        port=server.port,
        pid=server.pid,
        key=server.key,
        path=server.path,
        tools=tools,
        connections=connections,
        calls=size.calls,
        warmup=max(size.calls // 10, connections),
    )


@contextmanager
def _knowing(tools: int, pack: str, work: Path) -> Iterator[Server]:
    """A gateway in front of an upstream with so many tools."""
    folder = work / f"{pack}-{tools}"
    folder.mkdir()
    with (
        servers.upstream(folder, tools) as upstream,
        wardgate.serving(Setup(name="wardgate", pack=pack), upstream, folder) as server,
    ):
        yield server


def _report(
    size: Size,
    loads: dict[int, Rounds],
    paced: Mapping[str, Rounds],
    tools: Rounds,
    modules: Rounds,
    rss_mb: float,
    budget: Budget,
) -> Report:
    main = loads[MAIN]
    spreads = {
        "cpu_ratio": main.ratio("starter, read", "cpu_us", "relay"),
        "cpu_ratio_write": main.ratio("starter, write", "cpu_us", "relay"),
        "cpu_ratio_strict": main.ratio("strict, read", "cpu_us", "relay"),
        "cpu_ratio_strict_write": main.ratio("strict, write", "cpu_us", "relay"),
        "rps_ratio_c16": main.ratio("starter, read", "calls_per_s", "relay"),
        "added_p99_ms": paced["starter, read"].added("starter, read", "p99_ms", "relay"),
        "added_p99_relay_pace_ms": paced["relay"].added("starter, read", "p99_ms", "relay"),
        "flatness_tools": tools.ratio("many tools", "cpu_us", "few tools"),
        "flatness_modules": modules.ratio("many modules", "cpu_us", "few modules"),
        "memo_miss_cpu_ratio": tools.ratio("strict, memo misses", "cpu_us", "strict, memo hits"),
        "policy_p50_us": budget.policy_hit_us,
        "policy_miss_p50_us": budget.policy_miss_us,
    }
    relay_us = main.spread("relay", "cpu_us").median
    server_us = main.spread("empty server", "cpu_us").median
    rows = [row for connections, rounds in loads.items() for row in report.rows(rounds, connections)]
    rows += report.rows(paced["starter, read"], MAIN, suffix=", half load")
    rows += report.rows(paced["relay"], MAIN, suffix=", half of the relay's load")
    rows += report.rows(tools, MAIN, "few tools") + report.rows(modules, MAIN, "few modules")
    return Report(
        **{name: spread.median for name, spread in spreads.items()},
        rss_mb_1000_tools=rss_mb,
        spreads=spreads,
        stages_target_us={stage: share * relay_us for stage, share in stages.SHARES.items()},
        stages_us={"server": server_us, **budget.read_us},
        stages_write_us={"server": server_us, **budget.write_us},
        measured_us={
            "read": main.spread("starter, read", "cpu_us").median,
            "write": main.spread("starter, write", "cpu_us").median,
        },
        rows=rows,
        size=msgspec.to_builtins(size),
        environment=report.environment(),
    )


def profile(work: Path, *, writes: bool) -> list[profiling.Hot]:
    """The functions of the governed way that took most time of their own."""
    figures = work / "profile"
    with servers.upstream(work, FULL.few) as upstream:
        with wardgate.serving(Setup(name="profiled"), upstream, work, profile=figures) as server:
            job = _job(server, WRITE if writes else READ, FULL, MAIN)
            servers.load(job)
            profiling.start(server)
            servers.load(msgspec.structs.replace(job, warmup=0))
        return profiling.hottest(figures, job.calls)
