"""How long one decision takes. Not a test: run ``python -m tests.policy.bench_policy`` on a quiet machine.

Prints p50 and p99 in µs of thread CPU time per decision, for the shipped packs with memory warm and off, then
flatness in modules loaded and in tools known.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.model import Call, Facts, Outcome
from gateway.policy import EmbeddedPolicy, load
from tests.policy.helpers import call, principal, rule, tool, write

FACTS = Facts(slow={"trust": {"tier": 2}}, slow_revision="1", fast={"session": {"calls": 12}})
TEXT = "Fixes the parser so that an empty line is no longer an error. " * 8


def main() -> int:
    for pack in ("starter", "strict"):
        policy = load(None, pack)
        for memoise in (True, False):
            asked = EmbeddedPolicy(policy.bundle, memoise=memoise)
            for name, one in cases().items():
                report(f"{pack} {'memo ' if memoise else 'fresh'} {name}", one_decision(asked, one))
            report(
                f"{pack} {'memo ' if memoise else 'fresh'} result of git_log",
                one_result(asked, cases()["read git_log"]),
            )
            report(f"{pack} {'memo ' if memoise else 'fresh'} sees", one_look(asked, cases()["read git_log"]))
    with tempfile.TemporaryDirectory() as folder:
        for modules in (10, 100, 1000):
            policy = load(write(Path(folder) / str(modules), many(modules)))
            one = call({"a": 3, "b": TEXT}, on=tool("up0/t", risk="read"))
            report(f"{modules:5} modules, 10 in scope", one_decision(policy, one))
        for tools in (10, 10_000):
            policy = load(None, "starter")
            calls = [call({"path": str(n)}, on=tool(f"up{n % 50}/t{n}", risk="read")) for n in range(tools)]
            for one in calls:
                run(policy, one)
            report(f"{tools:5} tools", rotate(policy, calls))
    return 0


def cases() -> dict[str, Call]:
    ann = principal(labels=("developer", "accounting"))
    return {
        "read git_log": call(
            {"repo_path": "/srv/repo", "max_count": 10}, on=tool("git/git_log", risk="read"), by=ann
        ),
        "read sql": call({"sql": "select a from b where c = 1"}, on=tool("git/query", risk="read"), by=ann),
        "write git_commit": call(
            {"repo_path": "/srv/repo", "message": TEXT}, on=tool("git/git_commit", risk="reversible"), by=ann
        ),
        "pay_invoice": call(
            {"payee_iban": "DE89370400440532013000", "amount_micro_usd": 1_000_000, "reference": "R-1"},
            on=tool("office/pay_invoice", risk="irreversible", effects=("money",)), by=ann,
        ),
        "send_mail": call(
            {"to": "bob@example.com", "subject": "Minutes", "body": TEXT},
            on=tool("office/send_mail", risk="irreversible", effects=("egress",)), by=ann,
        ),
    }  # fmt: skip


def many(count: int) -> dict[str, str]:
    """Ten modules for the upstream that is called; the others are for other upstreams."""
    files = {}
    for number in range(count):
        upstream = 0 if number < 10 else number
        body = f'deny contains {{"code": "stop", "message": "m"}} if input.call.args.a == {number + 100}\n'
        body += 'allow contains {"code": "fine"} if input.tool.risk == "read"'
        files[f"r{number}"] = rule(f"r{number}", body, scope=f'{{tools: ["up{upstream}/*"]}}')
    return files


def run(policy: EmbeddedPolicy, one: Call) -> None:
    """Drive the coroutine by hand: it never suspends, and an event loop would be measured with it."""
    try:
        policy.call(one, FACTS).send(None)
    except StopIteration:
        return
    raise AssertionError("a decision suspended")


def one_decision(policy: EmbeddedPolicy, one: Call) -> Callable[[], None]:
    return lambda: run(policy, one)


def rotate(policy: EmbeddedPolicy, calls: Sequence[Call]) -> Callable[[], None]:
    at = iter(range(sys.maxsize))
    return lambda: run(policy, calls[next(at) % len(calls)])


def one_result(policy: EmbeddedPolicy, one: Call) -> Callable[[], None]:
    body = b'{"content":[{"type":"text","text":"' + TEXT.encode() * 4 + b'"}],"isError":false}'
    outcome = Outcome(status="ok", result_json=body)

    def ask() -> None:
        try:
            policy.result(one, FACTS, outcome).send(None)
        except StopIteration:
            return

    return ask


def one_look(policy: EmbeddedPolicy, one: Call) -> Callable[[], None]:
    return lambda: [policy.sees(one.principal, one.tool, FACTS) for _ in range(1)] and None


def report(name: str, ask: Callable[[], None], rounds: int = 1000) -> None:
    for _ in range(100):
        ask()
    taken = []
    for _ in range(rounds):
        started = time.thread_time_ns()
        ask()
        taken.append(time.thread_time_ns() - started)
    taken.sort()
    print(
        f"{name:40} p50 {taken[rounds // 2] / 1000:8.1f} µs   p99 {taken[rounds * 99 // 100] / 1000:8.1f} µs"
    )


if __name__ == "__main__":
    raise SystemExit(main())
