"""Parts that write down what the pipeline asked of them, in order, so that a test reads like a play.

The pipeline is pure code over ports; these are the smallest parts that can stand behind them. Everything
about the real parts is tested with the real parts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

from gateway import pipeline
from gateway.clock import SystemClock
from gateway.config import LimitsConfig
from gateway.errors import JournalError, Refused, StateError
from gateway.limits import InFlight
from gateway.model import (
    Answer,
    Ask,
    Decision,
    Facts,
    Finding,
    Manifest,
    Outcome,
    Principal,
    Refusal,
    Settled,
    Tool,
)
from gateway.ports import NOTHING_SHOWN, Parts, ResultDecision, Shown

AGENT = Principal(tenant="t", agent="bot", owner="team", credential="key1")


def tool(risk="read", **changes) -> Tool:
    manifest = changes.pop("manifest", Manifest(risk=risk))
    base: dict[str, Any] = {
        "kind": "tool",
        "upstream": "up",
        "name": "act",
        "target": "up/act",
        "manifest": manifest,
        "schema_hash": "h",
    }
    return Tool(**{**base, **changes})


def verdict(name: str, code: str = "", **changes) -> Decision:
    codes = {"allow": "allowed", "deny": "no_rule_allows", "escalate": "approval_needed"}
    finding = Finding(code=code or codes[name], message=f"because {name}", rule="test.rule")
    return Decision(verdict=name, findings=(finding,), revision="r1", **changes)


class Stage:
    """All parts in one object; ``told`` is what happened, in order."""

    revision = "r1"
    writable = True

    def __init__(self, **script: Any) -> None:
        self.told: list[str] = []
        self.sent: list[bytes] = []
        self.noted: list[str] = []
        self.learnt: list[Shown] = []
        self.counted: list[tuple[str, str]] = []
        self.recorded: list[tuple[str, str, str]] = []
        self.script = {
            "tool": tool(),
            "verdicts": [verdict("allow")],
            "outcome": Outcome(status="ok", result_json=b'{"content":[]}'),
            "facts": Facts(),
            "fail": "",
            "result": None,
            "modified": [],
            "held": Refusal(code="approvals_not_configured", message="nobody"),
            "sees": True,
            "may_send": True,
            "discharges": True,
            "edited": None,
            "agreed": None,
            "held_traceparent": "",
            **script,
        }
        self._verdicts = list(self.script["verdicts"])
        self._modified = list(self.script["modified"])
        self.limits = InFlight(script.get("limits", LimitsConfig()))

    def parts(self) -> Parts:
        return Parts(
            clock=SystemClock(),
            catalog=self,
            state=_State(self),
            policy=_Policy(self),
            approvals=self,
            journal=_Journal(self),
            upstreams=self,
            telemetry=_Telemetry(self),
            limits=self.limits,
            controls=(),
        )

    def run(self, args: Any = None, principal: Principal = AGENT) -> Answer:
        return asyncio.run(self.ask(args, principal))

    async def ask(self, args: Any = None, principal: Principal = AGENT) -> Answer:
        return await pipeline.call(self.parts(), self.asked(args, principal))

    async def decide(self, args: Any = None, principal: Principal = AGENT) -> pipeline.Cleared | Answer:
        return await pipeline.decide(self.parts(), self.asked(args, principal))

    def asked(self, args: Any = None, principal: Principal = AGENT) -> Ask:
        return Ask(
            principal=principal,
            surface="test",
            kind="tool",
            upstream="up",
            name="act",
            args={"x": 1} if args is None else args,
            session="s",
        )

    def step(self, name: str) -> None:
        self.told.append(name)
        if self.script["fail"] == name:
            faults: dict[str, Callable[[], Exception]] = {
                "begin": lambda: StateError("state_unavailable"),
                "intent": lambda: JournalError("journal_unavailable"),
                "settled": lambda: JournalError("journal_unavailable"),
                "resolve": lambda: Refused("unknown_tool"),
            }
            raise faults.get(name, lambda: RuntimeError(f"bug in {name}"))()

    # Catalog
    def resolve(self, kind, upstream, name):
        self.step("resolve")
        return self.script["tool"]

    def tools(self, kind, upstream=None):
        return [self.script["tool"]]

    def held(self):
        return []

    # Approvals
    async def hold(self, call, facts, decision):
        self.step("hold")
        held = self.script["held"]
        return held if held is not None else _Permit(self)

    async def renew(self, permit, call, facts, decision):
        self.step("renew")
        return Refusal(code="approval_needed", message="again", approval="a2")

    async def refused(self, permit, code):
        self.told.append(f"over {code}")

    async def wait(self, approval_id):
        self.told.append("wait")
        said = self.script["agreed"]
        if said is not None:  # people decide meanwhile
            self.script["held"] = None
            await asyncio.sleep(said)
        return said is not None

    async def may_send(self, permit):
        self.step("may_send")
        return self.script["may_send"]

    def ended(self, permit):
        pass

    # Upstreams
    async def execute(self, call, dialogue):
        self.step("execute")
        self.sent.append(call.args_json)
        return self.script["outcome"]


class _Permit:
    """What people agreed to, as the pipeline sees it."""

    fact: ClassVar = {"id": "a1"}
    taken = True

    def __init__(self, stage):
        self.stage = stage
        self.args = stage.script["edited"]
        self.traceparent = stage.script["held_traceparent"]

    def discharges(self, call, decision):
        return self.stage.script["discharges"]

    def bind(self, call, decision, decided_at):
        self.stage.told.append("bind")


class _State:
    def __init__(self, stage):
        self.stage = stage

    async def enter(self, ask):
        return ask.session

    async def begin(self, call):
        self.stage.step("begin")
        return self.stage.script["facts"]

    async def settle(self, call, action, outcome, shown=NOTHING_SHOWN):
        self.stage.step("release" if outcome is None else "settle")
        self.stage.learnt.append(shown)
        return Settled()

    def slow(self, principal, session=""):
        return Facts()


class _Policy:
    revision = "r1"

    def __init__(self, stage):
        self.stage = stage

    async def call(self, call, facts):
        self.stage.step("decide")
        verdicts = self.stage._verdicts
        return verdicts.pop(0) if len(verdicts) > 1 else verdicts[0]

    def wants_result(self, call):
        return self.stage.script["result"] is not None

    async def result(self, call, facts, outcome):
        self.stage.step("inspect")
        decision, shown = self.stage.script["result"]
        return ResultDecision(decision=decision, result_json=shown)

    def visible(self, principal, tools, facts):
        return tools if self.stage.script["sees"] else ()

    def sees(self, principal, tool, facts):
        return self.stage.script["sees"]

    def modify(self, call, decision):
        return self.stage._modified.pop(0) if self.stage._modified else None


class _Journal:
    writable = True

    def __init__(self, stage):
        self.stage = stage

    async def intent(self, call, facts, decision, action, refused="", settled=None, permit=None):
        self.stage.step("intent" if action in ("allow", "modify") else "record")
        self.stage.recorded.append((action, decision.verdict, refused or decision.code))

    async def settle(self, call, decision, action, outcome, result, settled=None, permit=None):
        self.stage.step("settled")

    def refused(self, code, surface, principal, detail):
        self.stage.noted.append(code)


class _Telemetry:
    def __init__(self, stage):
        self.stage = stage

    def call_started(self, call):
        return None

    def call_ended(self, token, call, answer):
        self.stage.told.append("ended")

    def decided(self, call, decision, action, permit=None):
        pass

    def waits(self, token):
        pass

    def goes_on(self, token, call, held, again):
        return token

    def inspected(self, call, decision):
        pass

    def settled(self, call, outcome):
        self.stage.told.append(f"settled {outcome.status}")

    def refused(self, code, surface):
        pass

    def unenforced(self, stage, reason):
        self.stage.counted.append((stage, reason))

    def traceparent(self, token):
        return ""


def with_mode(mode) -> Principal:
    return msgspec.structs.replace(AGENT, mode=mode)
