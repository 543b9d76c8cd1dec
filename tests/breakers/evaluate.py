"""Measures false trips, detection, delay and damage; ``make eval-breakers`` writes ``build/breakers.json``.

Thresholds were set on the seeds below 1,000 (``calibration``); what is measured here uses seeds from 1,000
on. The agents are synthetic: a regression harness, not a claim about anybody's production.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from multiprocessing import Pool
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import msgspec

from gateway.breakers.breakers import Breakers, packed
from gateway.breakers.calibrate import interval
from gateway.breakers.settings import Settings
from tests.breakers.traffic import ANOMALIES, BENIGN, SHIFTS, events

HELD_OUT = 1_000
REFRACTORY = 50


def clean(job: tuple[str, int, float, int, int, str]) -> dict[str, Any]:
    """False trips of one agent: what stopped or slowed it although it did nothing wrong."""
    name, seed, pace, calls, skip, shift = job
    breakers = Breakers(Settings())
    onset = skip if shift else None
    first, opened, quiet = 0, 0, 0
    by: Counter[str] = Counter()
    for n, event in enumerate(
        islice(events(name, seed, pace, onset=onset, anomaly=SHIFTS.get(shift)), calls)
    ):
        trips = breakers.observe(event)
        if not trips:
            continue
        for trip in trips:
            if trip.after == "throttled" and not shift:
                del breakers.machines[trip.key]  # ends by itself
            else:
                # Of a shift the reviewer says that the alarm was a false one; else only that it is over.
                breakers.reset(trip.key, event.at_ns, false_alarm=bool(shift))
        if n < (skip if shift else 0) or n < quiet:
            continue
        quiet = n + REFRACTORY
        if any(trip.after == "open" for trip in trips):
            opened += 1
        first += 1
        by[trips[0].detector] += 1
    return {
        "profile": name,
        "pace": pace,
        "calls": calls - (skip if shift else 0),
        "first": first,
        "open": opened,
        "by": dict(by),
    }


def wrong(job: tuple[str, int, str, float]) -> dict[str, Any]:
    """One agent that goes wrong at some call: when it is noticed, when it is stopped, and what it did
    until then."""
    name, seed, anomaly, pace = job
    breakers = Breakers(Settings())
    onset = Random(seed).randrange(3_000, 8_000)
    delay = stopped = None
    by = ""
    writes = irreversible = cost = sent = leaving = 0
    for n, event in enumerate(
        islice(events(name, seed, pace, onset=onset, anomaly=ANOMALIES[anomaly]), onset + 600)
    ):
        trips = breakers.observe(event)
        if n < onset:
            for trip in trips:
                breakers.reset(trip.key, event.at_ns)
            continue
        if delay is None and event.what != "denied":
            writes += event.writes
            irreversible += event.irreversible
            cost += event.cost
            sent += event.bytes_out
            leaving += event.bytes_out > 0
        if trips and delay is None:
            delay, by = n - onset + 1, trips[0].detector
        if any(trip.after == "open" for trip in trips):
            stopped = n - onset + 1
            break
    return {"profile": name, "anomaly": anomaly, "delay": delay, "stopped": stopped, "by": by, "writes": writes,
            "irreversible": irreversible, "cost": cost, "bytes": sent, "leaving": leaving}  # fmt: skip


def cost(calls: int) -> dict[str, Any]:
    """CPU of all detectors for one call (events are made beforehand), at the start and at the end of a long
    life, and the state of the agent as it is written down."""
    lot = 20_000
    stream = events("coder", HELD_OUT + 900, 10.0)
    breakers = Breakers(Settings())
    spent: list[float] = []
    sizes: list[int] = []
    for _ in range(calls // lot):
        made = list(islice(stream, lot))
        began = time.process_time()
        for event in made:
            breakers.observe(event)
        spent.append((time.process_time() - began) / lot * 1e6)
        sizes.append(len(packed(msgspec.msgpack.encode(breakers.behaviours["t", "coder", "general"]))))
        breakers.machines.clear()
    tenth = max(1, len(spent) // 10)
    return {
        "calls": calls, "us_per_call": round(median(spent), 2), "us_first_tenth": round(median(spent[:tenth]), 2),
        "us_last_tenth": round(median(spent[-tenth:]), 2), "us_best": round(min(spent), 2),
        "state_bytes_first": sizes[0], "state_bytes_last": sizes[-1], "state_bytes_most": max(sizes),
    }  # fmt: skip


def applies(name: str, anomaly: str) -> bool:
    """Egress cannot grow where nothing leaves often enough to have a usual size."""
    return not (anomaly.startswith("egress") and name in ("operator", "screener"))


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def false_rates(found: Iterable[dict[str, Any]]) -> dict[str, Any]:
    rows = list(found)
    calls = sum(row["calls"] for row in rows)
    days = sum(row["calls"] / row["pace"] for row in rows) / 86_400
    by: Counter[str] = Counter()
    for row in rows:
        by.update(row["by"])
    answer: dict[str, Any] = {"calls": calls, "agent_days": round(days, 2), "by": dict(by)}
    for kind in ("first", "open"):
        count = sum(row[kind] for row in rows)
        low, high = interval(count)
        answer[kind] = {
            "count": count,
            "per_10k": round(count / calls * 1e4, 3),
            "per_10k_95": [round(low / calls * 1e4, 3), round(high / calls * 1e4, 3)],
            "per_agent_day": round(count / days, 3),
            "per_agent_day_95": [round(low / days, 3), round(high / days, 3)],
        }
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=60_000, help="clean calls of each profile and pace")
    parser.add_argument("--seeds", type=int, default=12, help="agents of each profile for each anomaly")
    parser.add_argument("--paces", default="0.1,1,10,100")
    parser.add_argument("--only-clean", action="store_true")
    parser.add_argument("--only-wrong", action="store_true")
    parser.add_argument("--life", type=int, default=60_000, help="clean calls of one agent")
    parser.add_argument("--seed", type=int, default=HELD_OUT)
    parser.add_argument("--out", type=Path, default=Path("build/breakers.json"))
    args = parser.parse_args()
    began = time.perf_counter()
    report: dict[str, Any] = {"settings": "defaults", "seeds_from": args.seed}
    with Pool(2) as pool:
        lots = max(1, args.calls // args.life)
        paces = [] if args.only_wrong else [float(pace) for pace in args.paces.split(",")]
        jobs = [
            (name, args.seed + lot, pace, args.calls // lots, 0, "")
            for pace in paces for name in BENIGN for lot in range(lots)
        ]  # fmt: skip
        rows = pool.map(clean, jobs, chunksize=1)
        report["clean"] = {
            f"{pace:g} calls/s": {
                "all": false_rates(row for row in rows if row["pace"] == pace),
                **{
                    name: false_rates(row for row in rows if row["pace"] == pace and row["profile"] == name)
                    for name in BENIGN
                },
            }
            for pace in paces
        }
        for pace, found in report["clean"].items():
            print(pace, json.dumps(found["all"]), flush=True)
            for name in BENIGN:
                print(
                    "   ",
                    name,
                    found[name]["first"]["count"],
                    found[name]["open"]["count"],
                    found[name]["by"],
                )
        if not args.only_clean:
            jobs = [
                (name, args.seed + seed, anomaly, 1.0)
                for anomaly in ANOMALIES for name in BENIGN if applies(name, anomaly) for seed in range(args.seeds)
            ]  # fmt: skip
            rows = pool.map(wrong, jobs, chunksize=4)
            report["anomalies"] = {}
            for anomaly in ANOMALIES:
                mine = [row for row in rows if row["anomaly"] == anomaly]
                delays = [row["delay"] for row in mine if row["delay"] is not None]
                stops = [row["stopped"] for row in mine if row["stopped"] is not None]
                report["anomalies"][anomaly] = {
                    "runs": len(mine),
                    "detected": round(len(delays) / len(mine), 4),
                    "delay_median": median(delays) if delays else None,
                    "delay_p95": percentile(delays, 0.95) if delays else None,
                    "stopped": round(len(stops) / len(mine), 4),
                    "stopped_median": median(stops) if stops else None,
                    "by": dict(Counter(row["by"] for row in mine)),
                    "damage_median": {key: median(row[key] for row in mine) for key in ("writes", "irreversible", "bytes", "cost", "leaving")},
                    "by_profile": {
                        name: [sum(row["delay"] is not None for row in mine if row["profile"] == name),
                               median([row["delay"] or 601 for row in mine if row["profile"] == name] or [0])]
                        for name in BENIGN
                    },
                }  # fmt: skip
                print(anomaly, json.dumps(report["anomalies"][anomaly]), flush=True)
            jobs2 = [
                (name, args.seed + 500 + n, 1.0, 13_000, 3_000, shift)
                for shift in SHIFTS
                for name in BENIGN
                for n in range(3)
            ]
            rows = pool.map(clean, jobs2, chunksize=1)
            size = len(BENIGN) * 3
            report["shifts"] = {
                shift: false_rates(rows[n * size : (n + 1) * size]) for n, shift in enumerate(SHIFTS)
            }
            for shift, found in report["shifts"].items():
                print(shift, json.dumps(found))
    if not (args.only_clean or args.only_wrong):
        report["cost"] = cost(1_000_000)
        print("cost", json.dumps(report["cost"]), flush=True)
    report["seconds"] = round(time.perf_counter() - began, 1)
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1))
    print(f"{args.out} in {report['seconds']} s", file=sys.stderr)


if __name__ == "__main__":
    main()
