"""Deciding recorded calls again under another policy, and saying what that would change.

Everything is as it was: arguments, agent, tool, facts, time. What is asked is what the gateway asks: may
the agent see the tool, may the call be made, what of its result may be shown; an obligation that changes the
arguments is applied and the changed call decided again.

A change is *loosened* when any protection is lost: a verdict that is more lenient, a redaction, a cap, an
approval chain or a label that is no longer asked for. It is *tightened* when nothing is lost and something is
added. A draft that fails to evaluate is an *error*, although it would deny: nobody wants that by accident.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

import msgspec
import orjson

from gateway import strictjson
from gateway.digest import call_digest
from gateway.model import Call, Decision, Facts, Finding, Obligation, Outcome, Verdict
from gateway.policy.policy import EmbeddedPolicy, at_once
from gateway.reasons import REASONS
from gateway.recorded import Recorded, Said

Change = Literal["unchanged", "tightened", "loosened", "error", "not_replayable"]
Stage = Literal["list", "call", "result"]

CHANGES: Final[tuple[Change, ...]] = ("unchanged", "tightened", "loosened", "error", "not_replayable")
FAULTS: Final = frozenset({"policy_error", "policy_undefined", "policy_bad_shape", "undeclared_code",
                           "obligation_conflict", "modified_again"})  # fmt: skip
"""Codes with which the gateway says that the policy itself is broken."""

_RANK: Final[dict[Verdict, int]] = {"allow": 0, "escalate": 1, "deny": 2}
_SEEN: Final = Said(verdict="allow")


class Flip(msgspec.Struct, frozen=True, kw_only=True):
    """How one recorded decision comes out now. ``why`` names the difference in a few words."""

    seq: int
    call_id: str
    at_ns: int
    agent: str
    target: str
    change: Change
    stage: Stage = "call"
    before: str = ""  # verdict
    after: str = ""
    before_code: str = ""
    after_code: str = ""
    rules: tuple[str, ...] = ()  # ids of the modules that account for the difference
    why: str = ""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Flips of one kind, by rule and tool, with the first few as examples."""

    change: Change
    stage: Stage
    rule: str
    target: str
    before: str
    after: str
    why: str
    count: int
    examples: tuple[str, ...]  # call ids


class Report(msgspec.Struct, frozen=True, kw_only=True):
    revision: str
    counts: dict[str, int]
    missing: dict[str, int]  # why calls could not be decided again
    reasons_only: int  # unchanged, with another reason code
    groups: tuple[Group, ...]
    groups_left_out: int  # more than fit; their calls are counted

    @property
    def total(self) -> int:
        return sum(self.counts.values())


class Tally:
    """Counts flips in bounded memory: groups beyond the first thousand are counted, not listed."""

    _GROUPS: Final = 1000
    _EXAMPLES: Final = 3

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._missing: Counter[str] = Counter()
        self._reasons_only = 0
        self._left_out = 0
        self._groups: dict[tuple[Any, ...], tuple[int, tuple[str, ...]]] = {}

    def add(self, flip: Flip) -> None:
        self.counts[flip.change] += 1
        if flip.change == "unchanged":
            self._reasons_only += flip.before_code != flip.after_code
            return
        if flip.change == "not_replayable":
            self._missing[flip.why] += 1
            return
        rule = ", ".join(flip.rules) or "(no rule)"
        key = (flip.change, flip.stage, rule, flip.target, flip.before, flip.after, flip.why)
        if key not in self._groups and len(self._groups) >= self._GROUPS:
            self._left_out += 1
            return
        count, examples = self._groups.get(key, (0, ()))
        if len(examples) < self._EXAMPLES:
            examples = (*examples, flip.call_id)
        self._groups[key] = (count + 1, examples)

    def report(self, revision: str) -> Report:
        groups = [
            Group(
                change=key[0], stage=key[1], rule=key[2], target=key[3], before=key[4], after=key[5],
                why=key[6], count=count, examples=examples,
            )
            for key, (count, examples) in self._groups.items()
        ]  # fmt: skip
        groups.sort(key=lambda group: (-CHANGES.index(group.change), -group.count, group.rule, group.target))
        return Report(
            revision=revision,
            counts={change: self.counts[change] for change in CHANGES},
            missing=dict(sorted(self._missing.items())),
            reasons_only=self._reasons_only,
            groups=tuple(groups),
            groups_left_out=self._left_out,
        )


def replay(policy: EmbeddedPolicy, recorded: Iterable[Recorded]) -> Iterator[Flip]:
    """One flip a decision, in order; reads ahead by nothing, keeps nothing."""
    for each in recorded:
        yield flip(policy, each)


def flip(policy: EmbeddedPolicy, recorded: Recorded) -> Flip:
    """Decide one recorded call again."""
    base = Flip(
        seq=recorded.seq, call_id=recorded.call_id, at_ns=recorded.at_ns, agent=recorded.agent,
        target=recorded.target, change="not_replayable", before=recorded.said.verdict,
        before_code=recorded.said.code,
    )  # fmt: skip
    call = recorded.call
    if call is None:
        return msgspec.structs.replace(base, why=recorded.missing or "no_payload")
    # What an agent is not shown it cannot call; where policy is only observed nothing is hidden.
    if call.mode == "enforce" and not policy.sees(call.principal, call.tool, recorded.facts):
        hidden = Said(verdict="deny", findings=(_own("not_visible"),))
        change: Change = "unchanged" if recorded.said.verdict == "deny" else "tightened"
        return _flip(base, "list", recorded.said, hidden, change, "no longer shown")
    final, again = decided(policy, recorded)
    change, why = compare(recorded.said, again)
    if change == "unchanged" and again.verdict != "deny":
        change, why = _sent(recorded, final)
    found = _flip(base, "call", recorded.said, again, change, why)
    if change != "unchanged" or recorded.outcome is None or again.verdict == "deny":
        return found
    return _result(policy, recorded, final, found)


def decided(policy: EmbeddedPolicy, recorded: Recorded) -> tuple[Call, Said]:
    """What the policy says of a recorded call, and the call as it would be sent."""
    assert recorded.call is not None, "only what is on record can be decided"
    call = recorded.call
    decision = at_once(policy.call(call, recorded.facts))
    if decision.verdict == "deny" or not decision.obligations or call.mode != "enforce":
        return call, _said(decision)
    args = policy.modify(call, decision)
    if args is None:
        return call, _said(decision)
    changed = _changed(call, args)
    again = at_once(policy.call(changed, recorded.facts))
    if again.verdict != "deny" and policy.modify(changed, again) is not None:
        return changed, Said(verdict="deny", findings=(_own("modified_again"),))
    return changed, _said(again)


def _result(policy: EmbeddedPolicy, recorded: Recorded, call: Call, before: Flip) -> Flip:
    """The result's turn, when the call itself comes out as it did."""
    outcome = recorded.outcome
    assert outcome is not None, "the caller has looked"
    said = recorded.result_said or _SEEN  # nobody was asked: everything was shown
    again = result_of(policy, call, recorded.facts, outcome)
    change, why = compare(said, again)
    return before if change == "unchanged" else _flip(before, "result", said, again, change, why)


def result_of(policy: EmbeddedPolicy, call: Call, facts: Facts, outcome: Outcome) -> Said:
    """What the policy says of a result; everything may be shown when nobody looks at it."""
    if not policy.wants_result(call):
        return _SEEN
    return _said(at_once(policy.result(call, facts, outcome)).decision)


def compare(before: Said, after: Said) -> tuple[Change, str]:
    """Which change it is, and what the difference is in a few words."""
    if after.verdict == "deny" and any(finding.code in FAULTS for finding in after.findings):
        broken = any(finding.code in FAULTS for finding in before.findings)
        if not (broken and before.verdict == "deny"):
            return "error", next(finding.code for finding in after.findings if finding.code in FAULTS)
    step = _RANK[after.verdict] - _RANK[before.verdict]
    if step:
        return "tightened" if step > 0 else "loosened", f"{before.verdict} → {after.verdict}"
    if after.verdict == "deny":
        return "unchanged", ""
    if freed := _declassified(after) - _declassified(before):
        return "loosened", f"now takes off {', '.join(sorted(freed))}"
    if kept := _declassified(before) - _declassified(after):
        return "tightened", f"no longer takes off {', '.join(sorted(kept))}"
    lost, gained = _owed(before) - _owed(after), _owed(after) - _owed(before)
    lost_caps, gained_caps = _caps(before, after), _caps(after, before)
    if lost or lost_caps:
        return "loosened", f"no longer {_words(lost, lost_caps)}"
    if gained or gained_caps:
        return "tightened", f"now {_words(gained, gained_caps)}"
    return "unchanged", ""


def _sent(recorded: Recorded, call: Call) -> tuple[Change, str]:
    """Whether the arguments that would be sent are those that were, or closer bounded, or not."""
    assert recorded.call is not None, "it has just been decided"
    was = recorded.sent_json or recorded.call.args_json
    if was == call.args_json:
        return "unchanged", ""
    if not recorded.sent_json:
        return "tightened", "arguments now changed"
    if not call.modified_from:
        return "loosened", "arguments no longer changed"
    lower = _within(orjson.loads(call.args_json), orjson.loads(was))
    return ("tightened", "amounts lower") if lower else ("loosened", "arguments changed otherwise")


def _within(now: Any, was: Any) -> bool:
    """Whether two arguments differ in nothing but numbers that are lower now."""
    if isinstance(now, dict) and isinstance(was, dict):
        return now.keys() == was.keys() and all(_within(now[key], was[key]) for key in now)
    if isinstance(now, list) and isinstance(was, list):
        return len(now) == len(was) and all(map(_within, now, was))
    if isinstance(now, int | float) and isinstance(was, int | float):
        return now <= was
    return bool(now == was)


def _owed(said: Said) -> frozenset[tuple[str, str]]:
    """Everything but amounts that is asked for besides the verdict, each on its own."""
    owed: set[tuple[str, str]] = set()
    if said.verdict == "escalate":
        owed |= {("approval", finding.chain) for finding in said.findings}
    for duty in said.obligations:
        value: Any = duty.value
        if duty.kind == "redact":
            owed |= {
                ("redact", f"{part} {item}") for part in ("pointers", "keys") for item in value.get(part, ())
            }
            owed |= {("redact", f"pattern {name}={text}") for name, text in value.get("patterns", {}).items()}
        elif duty.kind in ("label", "notify"):
            owed |= {(duty.kind, str(item)) for item in value}
    return frozenset(owed)


def _declassified(said: Said) -> frozenset[str]:
    """Labels that are taken off the session."""
    return frozenset(
        str(item) for duty in said.obligations if duty.kind == "declassify" for item in duty.value
    )


def _caps(ours: Said, theirs: Said) -> list[str]:
    """Amounts that are stricter in the first: a lower cap, a higher cost."""
    limits, other = _amounts(ours.obligations), _amounts(theirs.obligations)
    return sorted(name for name, value in limits.items() if name not in other or value < other[name])


def _amounts(duties: Iterable[Obligation]) -> dict[str, int]:
    amounts: dict[str, int] = {}
    for duty in duties:
        value: Any = duty.value
        if duty.kind == "cap":
            amounts[f"cap {value['pointer']}"] = value["max"]
        elif duty.kind == "cost":
            amounts["cost"] = -value
    return amounts


def _words(owed: Iterable[tuple[str, str]], amounts: Iterable[str]) -> str:
    kinds = Counter(kind for kind, _ in owed)
    counted = [f"{kind} ({number})" if number > 1 else kind for kind, number in sorted(kinds.items())]
    return ", ".join([*counted, *amounts])


def _flip(base: Flip, stage: Stage, before: Said, after: Said, change: Change, why: str) -> Flip:
    return msgspec.structs.replace(
        base, change=change, stage=stage, before=before.verdict, after=after.verdict, before_code=before.code,
        after_code=after.code, rules=_accountable(before, after, change), why=why,
    )  # fmt: skip


def _accountable(before: Said, after: Said, change: Change) -> tuple[str, ...]:
    """The modules whose word is the difference: those that now say more, or that have fallen silent."""
    was, now = _speakers(before), _speakers(after)
    if change == "loosened":
        return tuple(sorted(was - now)) or tuple(sorted(was))
    return tuple(sorted(now - was)) or tuple(sorted(now))


def _speakers(said: Said) -> set[str]:
    rules = {finding.rule for finding in said.findings}
    for duty in said.obligations:
        rules |= set(duty.rule.split(","))
    return rules - {""}


def _said(decision: Decision) -> Said:
    return Said(
        verdict=decision.verdict, findings=decision.findings, obligations=_plain(decision.obligations),
        revision=decision.revision, rules=decision.rules,
    )  # fmt: skip


def _plain(duties: tuple[Obligation, ...]) -> tuple[Obligation, ...]:
    """Obligations as they read on record: JSON, not the types they were merged in."""
    return tuple(
        msgspec.structs.replace(duty, value=msgspec.to_builtins(duty.value)) for duty in duties
    ) if duties else ()  # fmt: skip


def _own(code: str) -> Finding:
    return Finding(code=code, message=REASONS[code].message)


def _changed(call: Call, args: Any) -> Call:
    """The call with arguments that an obligation changed, as the pipeline makes it."""
    args_json = strictjson.canonical(args)
    digest = call_digest(call.principal, call.session, call.tool, args_json, call.inputs_json)
    return msgspec.structs.replace(
        call,
        args=args,
        args_json=args_json,
        digest=digest,
        modified_from=call.digest,
        asked_json=call.args_json,
    )
