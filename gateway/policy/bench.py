"""Measuring decisions: CPU time on one thread, the engine's work and ours, nothing of a gateway around it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from gateway.model import Call, Decision, Facts, Outcome, Risk, Tool
from gateway.policy import cases
from gateway.policy.cases import Case, GivenTool, Placed
from gateway.policy.module import Bundle, Module
from gateway.policy.policy import EmbeddedPolicy, at_once

_WARM: Final = 50
_RISKS: Final[tuple[Risk, ...]] = ("read", "reversible", "compensable", "irreversible")
_FLAT: Final = ((10, 10), (100, 100), (1000, 1000), (1000, 10_000))


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    p50_us: float
    p99_us: float
    rules: int  # in scope
    memoised: int  # of them answered from memory


class Flat(msgspec.Struct, frozen=True, kw_only=True):
    modules: int  # besides those of the policy, in the scope of other tools
    tools: int  # known, and each asked about in turn
    p50_us: float


def standard() -> tuple[Placed, ...]:
    """One call of each risk class, for a policy without cases."""
    args = {"text": "x" * 1000}
    tools = [GivenTool(target=f"bench/{risk}", risk=risk) for risk in _RISKS]
    return tuple(Placed(tool.risk, "", 0, Case(tool=tool, args=args)) for tool in tools)


def measure(bundle: Bundle, tables: Sequence[Placed], rounds: int) -> Iterator[Figure]:
    """What each case costs once the gateway is warm: engines made, memories filled."""
    policy = EmbeddedPolicy(bundle)
    for placed in tables:
        case = placed.case
        call, facts = cases.call_of(case), cases.facts_of(case)
        outcome = cases.outcome_of(case.result) if case.result is not None else None
        ask = (
            partial(_result, policy, call, facts, outcome) if outcome else partial(_call, policy, call, facts)
        )
        took = sorted(_times(ask, rounds))
        decision = ask()
        yield Figure(
            name=placed.name, p50_us=took[len(took) // 2] / 1000, p99_us=took[len(took) * 99 // 100] / 1000,
            rules=len(decision.rules), memoised=decision.memoised,
        )  # fmt: skip


def flatness(bundle: Bundle, tables: Sequence[Placed], rounds: int) -> Iterator[Flat]:
    """The same question, about the case with most rules in scope, with ever more modules and tools."""
    alone = EmbeddedPolicy(bundle)
    chosen = max(
        (each.case for each in tables if each.case.result is None),
        key=lambda case: len(alone.group("call", _named(cases.call_of(case), 0)).rules),
        default=standard()[0].case,
    )
    call, facts = cases.call_of(chosen), cases.facts_of(chosen)
    for modules, tools in _FLAT:
        policy = EmbeddedPolicy(replace(bundle, rules=(*bundle.rules, *_elsewhere(bundle.rules[0], modules))))
        known = [_named(call, number) for number in range(tools)]
        for each in known:
            at_once(policy.call(each, facts))
        took = sorted(_times(partial(_next, policy, cycle(known), facts), rounds))
        yield Flat(modules=modules, tools=tools, p50_us=took[len(took) // 2] / 1000)


def _call(policy: EmbeddedPolicy, call: Call, facts: Facts) -> Decision:
    return at_once(policy.call(call, facts))


def _result(policy: EmbeddedPolicy, call: Call, facts: Facts, outcome: Outcome) -> Decision:
    return at_once(policy.result(call, facts, outcome)).decision


def _next(policy: EmbeddedPolicy, calls: Iterator[Call], facts: Facts) -> Decision:
    return at_once(policy.call(next(calls), facts))


def _times(ask: Callable[[], Any], rounds: int) -> list[int]:
    """CPU nanoseconds of each round: other processes of a busy machine are not counted."""
    for _ in range(min(_WARM, rounds)):
        ask()
    took = []
    for _ in range(rounds):
        started = time.thread_time_ns()
        ask()
        took.append(time.thread_time_ns() - started)
    return took


def _elsewhere(module: Module, count: int) -> Iterator[Module]:
    """Modules of teams whose tools are not asked about."""
    assert module.meta is not None, "rules have METADATA"
    for number in range(count):
        scope = replace(module.scope, tools=(f"elsewhere-{number}/*",))
        custom = replace(module.custom, id=f"elsewhere.{number}", scope=scope)
        yield replace(module, meta=replace(module.meta, custom=custom))


def _named(call: Call, number: int) -> Call:
    tool: Tool = replace(call.tool, name=f"tool{number}", target=f"{call.tool.upstream}/tool{number}")
    return replace(call, tool=tool)
