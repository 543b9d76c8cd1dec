"""How long a decision takes and what the detectors catch: ``make bench-policy``, build/policy-bench.json.

Every pack is loaded whole and asked realistic calls, with and without memory. Figures are thread CPU time per
decision in µs: on a shared machine wall time measures the neighbours. Rounds go over all cases in turn, so
that a busy second touches all alike; each figure is the median over rounds. Flatness is a ratio of two
policies asked alternately, the median over pairs. The load of the machine is written beside them.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gateway.model import Call, Facts, Outcome, Principal
from gateway.policy import EmbeddedPolicy, load, packs
from gateway.policy.contract import CONTRACT
from gateway.policy.engine import NAME
from gateway.policy.input import Sections
from tests.policy.detectors import evaluate, sizes
from tests.policy.helpers import call, principal, rule, tool, write

OUT = Path(__file__).parents[2] / "build" / "policy-bench.json"
ROUNDS, ASKED = 24, 100
FACTS = Facts(
    slow={},
    slow_revision="1",
    fast={
        "session": {
            "id": "s", "age_s": 311, "calls": 12, "writes": 3, "irreversible": 0, "denials": 1, "errors": 0
        }
    },
)  # fmt: skip
TEXT = "Fixes the parser so that an empty line is no longer an error, and adds a test for it. " * 6
TARGETS = {"starter": 120, "payments": 250, "devops": 250, "data-protection": 250, "strict": 250}
FLAT = 1.10

Ask = Callable[[], None]


def cases() -> dict[str, Call]:
    """Calls as agents make them, to tools as servers name them; about 1.5 KB of input each."""
    ann = principal(labels=("developer", "accounting"), environment="staging")

    def one(target: str, args: Mapping[str, Any], by: Principal = ann, **manifest: Any) -> Call:
        return call(args, on=tool(target, source="operator", **manifest), by=by)

    query = "select id, name, state from orders where customer_id = 7 and state <> 'closed' order by id " * 4
    return {
        "git_log": one("git/git_log", {"repo_path": "/srv/repo", "max_count": 10}, risk="read"),
        "read_file": one("filesystem/read_file", {"path": "/srv/project/src/parser.py"}, risk="read"),
        "postgres query": one("postgres/query", {"sql": query.strip()}, risk="read"),
        "git_commit": one("git/git_commit", {"repo_path": "/srv/repo", "message": TEXT}, risk="reversible"),
        "write_file": one(
            "filesystem/write_file", {"path": "/srv/project/a.md", "content": TEXT}, risk="reversible"
        ),
        "run_command": one(
            "terminal/run_command", {"command": "pytest -q tests/unit -k parser", "cwd": "/srv/project"},
            risk="irreversible", effects=("write",),
        ),
        "create_payment_intent": one(
            "stripe/create_payment_intent",
            {"amount": 1999, "currency": "usd", "customer": "cus_9s6XKz", "description": TEXT[:200]},
            risk="irreversible", effects=("money",),
        ),
        "kubectl_scale": one(
            "kubernetes/kubectl_scale", {"namespace": "shop", "name": "web", "replicas": 3},
            risk="reversible", effects=("write",),
        ),
        "slack_post_message": one(
            "slack/slack_post_message", {"channel_id": "C012AB3CD", "text": TEXT},
            risk="irreversible", effects=("egress",),
        ),
        "send_email": one(
            "email/send_email", {"to": ["bob@example.com"], "subject": "Minutes", "body": TEXT},
            risk="irreversible", effects=("egress",),
        ),
        "search_customers": one(
            "crm/search_customers", {"query": "Ann", "limit": 20}, risk="read", confidentiality=2
        ),
    }  # fmt: skip


# A page of text, and a record with nothing in it that has to go.
RESULT = json.dumps(
    {
        "content": [{"type": "text", "text": TEXT * 2}],
        "structuredContent": {"id": 7, "name": "Ann", "note": TEXT},
    }
).encode()


def main() -> int:
    started, before = time.monotonic(), os.getloadavg()
    report: dict[str, Any] = {"packs": {name: one_pack(name) for name in packs()}}
    report["flatness"] = {"modules": flat_in_modules(), "tools": flat_in_tools()}
    report["detectors"] = detectors()
    report["machine"] = {
        "engine": NAME, "python": platform.python_version(), "processor": _processor(),
        "cores": os.cpu_count(), "load_before": before, "load_after": os.getloadavg(),
        "seconds": round(time.monotonic() - started),
    }  # fmt: skip
    report["method"] = " ".join((__doc__ or "").split("\n\n", 1)[1].split())
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"load {before[0]:.1f} before, {os.getloadavg()[0]:.1f} after; written to {OUT}")
    return 0


def one_pack(name: str) -> dict[str, Any]:
    policy = load(None, name)
    fresh = EmbeddedPolicy(policy.bundle, memoise=False)
    asks: dict[str, Ask] = {}
    for case, one in cases().items():
        asks[f"call {case}"], asks[f"fresh call {case}"] = decision(policy, one), decision(fresh, one)
    for case in ("git_log", "search_customers"):
        one = cases()[case]
        asks[f"result {case}"], asks[f"fresh result {case}"] = result(policy, one), result(fresh, one)
    figures = measured(asks)
    size = {f"call {case}": len(ALL.encode(one, FACTS)) for case, one in cases().items()}
    rows = {}
    for case in (case for case in asks if not case.startswith("fresh ")):
        rows[case] = {"memory": figures[case], "fresh": figures[f"fresh {case}"]}
        if case in size:
            rows[case] |= {"input_bytes": size[case], "modules": len(rules(policy, cases()[case[5:]]))}
    calls = [row["memory"]["p50_us"] for case, row in rows.items() if case.startswith("call ")]
    ratios = [row["memory"]["p99_us"] / row["memory"]["p50_us"] for row in rows.values()]
    target = TARGETS[name]
    print(f"{name}: slowest call p50 {max(calls)} µs (target {target}), p99/p50 at most {max(ratios):.1f}")
    for case, row in rows.items():
        print(
            f"   {case:28} {row['memory']['p50_us']:7.1f} p99 {row['memory']['p99_us']:7.1f}   "
            f"fresh {row['fresh']['p50_us']:7.1f} p99 {row['fresh']['p99_us']:7.1f}"
        )
    return {
        "modules": len(policy.bundle.rules), "target_p50_us": target, "slowest_p50_us": max(calls),
        "middle_p50_us": statistics.median(calls), "met": max(calls) <= target,
        "p99_over_p50_worst": round(max(ratios), 2),
        "p99_over_p50_middle": round(statistics.median(ratios), 2),
        "cases": rows,
    }  # fmt: skip


ALL = Sections(path for path, field in CONTRACT.items() if "call" in field.phases)


def rules(policy: EmbeddedPolicy, one: Call) -> tuple[str, ...]:
    return policy._phases["call"].of_call(one).rules


def measured(asks: Mapping[str, Ask]) -> dict[str, dict[str, float]]:
    """Median over rounds of each round's p50 and p99, and the best round's p50."""
    for ask in asks.values():
        for _ in range(60):
            ask()
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in asks}
    for _ in range(ROUNDS):
        for name, ask in asks.items():
            rounds[name].append(one_round(ask))
    return {
        name: {
            "p50_us": round(statistics.median(p50 for p50, _ in taken), 1),
            "p99_us": round(statistics.median(p99 for _, p99 in taken), 1),
            "best_p50_us": round(min(p50 for p50, _ in taken), 1),
        }
        for name, taken in rounds.items()
    }


def one_round(ask: Ask) -> tuple[float, float]:
    taken = []
    for _ in range(ASKED):
        started = time.thread_time_ns()
        ask()
        taken.append(time.thread_time_ns() - started)
    taken.sort()
    return taken[ASKED // 2] / 1000, taken[ASKED * 99 // 100] / 1000


def paired(few: Ask, many: Ask) -> dict[str, Any]:
    """How much slower ``many`` is: the median of ratios of rounds taken one right after the other."""
    for _ in range(200):
        few(), many()
    pairs = [(one_round(few)[0], one_round(many)[0]) for _ in range(ROUNDS * 2)]
    ratio = statistics.median(more / less for less, more in pairs)
    return {
        "few_p50_us": round(statistics.median(less for less, _ in pairs), 1),
        "many_p50_us": round(statistics.median(more for _, more in pairs), 1),
        "ratio": round(ratio, 3), "met": ratio <= FLAT,
    }  # fmt: skip


def flat_in_modules() -> dict[str, Any]:
    """Ten modules in scope, ten or a thousand loaded."""
    one = call({"a": 3, "b": TEXT}, on=tool("up0/t", risk="read"))
    with tempfile.TemporaryDirectory() as folder:
        ten, thousand = (load(write(Path(folder) / str(n), many(n))) for n in (10, 1000))
        found = paired(decision(ten, one), decision(thousand, one))
    print(f"10 → 1,000 modules: × {found['ratio']}")
    return found


def many(count: int) -> dict[str, str]:
    """Ten modules for the upstream that is called; the others are for other upstreams."""
    files = {}
    for number in range(count):
        upstream = 0 if number < 10 else number
        body = f'deny contains {{"code": "stop", "message": "m"}} if input.call.args.a == {number + 100}\n'
        body += 'allow contains {"code": "fine"} if input.tool.risk == "read"'
        files[f"r{number}"] = rule(f"r{number}", body, scope=f'{{tools: ["up{upstream}/*"]}}')
    return files


def flat_in_tools() -> dict[str, Any]:
    """The strict pack with ten or 10,000 tools known; asked about the same ten, and about each in turn."""
    found = {}
    calls = [
        call({"query": TEXT}, on=tool(f"up{n % 50}/t{n}", risk="irreversible", effects=("egress",)))
        for n in range(10_000)
    ]
    for kind, turn in (("the same ten", 10), ("each in turn", 10_000)):
        ten, lots = load(None, "strict"), load(None, "strict")
        for one in calls[:10]:
            run(ten, one)
        for one in calls:
            run(lots, one)
        found[kind] = paired(rotate(ten, calls[:10]), rotate(lots, calls[:turn]))
        print(f"10 → 10,000 tools, {kind}: × {found[kind]['ratio']}")
    return found


def detectors() -> dict[str, Any]:
    benign, attacks = sizes()
    rows = {
        kind: {
            "caught": item.caught, "recall": round(item.recall, 3), "precision": round(item.precision, 3),
            "missed": item.missed, "false_alarms": item.alarms,
        }
        for kind, item in evaluate().items()
    }  # fmt: skip
    for kind, row in rows.items():
        print(f"{kind:20} recall {row['recall']:.3f} precision {row['precision']:.3f}")
    caught = sum(row["caught"] for row in rows.values())
    missed = sum(len(row["missed"]) for row in rows.values())
    alarms = sum(len(row["false_alarms"]) for row in rows.values())
    return {
        "corpus": {"benign": benign, "attacks": attacks, "made": "by hand, by the authors of the patterns"},
        "recall": round(caught / (caught + missed), 3), "precision": round(caught / (caught + alarms), 3),
        "kinds": rows,
    }  # fmt: skip


def run(policy: EmbeddedPolicy, one: Call) -> None:
    """Drive the coroutine by hand: it never suspends, and an event loop would be measured with it."""
    try:
        policy.call(one, FACTS).send(None)
    except StopIteration:
        return
    raise AssertionError("a decision suspended")


def decision(policy: EmbeddedPolicy, one: Call) -> Ask:
    return lambda: run(policy, one)


def rotate(policy: EmbeddedPolicy, calls: list[Call]) -> Ask:
    at = iter(range(sys.maxsize))
    return lambda: run(policy, calls[next(at) % len(calls)])


def result(policy: EmbeddedPolicy, one: Call) -> Ask:
    outcome = Outcome(status="ok", result_json=RESULT)

    def ask() -> None:
        try:
            policy.result(one, FACTS, outcome).send(None)
        except StopIteration:
            return

    return ask


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


if __name__ == "__main__":
    raise SystemExit(main())
