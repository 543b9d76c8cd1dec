"""The one combiner: from what modules contribute to a verdict. Pure, total and independent of order.

    any deny → deny, else any escalate → escalate, else any allow → allow, else what the phase says

Only modules in ``enforce`` mode take part. Whatever is not understood is a deny with a code that says why:
there is no answer of a policy that opens a door by being odd.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, Literal

import msgspec

from gateway.model import Finding, Json, Mode, Obligation, Observed, Verdict
from gateway.policy import obligations
from gateway.policy.metadata import SEVERITY_RANK
from gateway.reasons import REASONS

_MAX_TEXT: Final = 1000


class Rule(msgspec.Struct, frozen=True):
    """What the combiner must know of a module."""

    id: str
    severity: str
    mode: Mode
    codes: Collection[str]


class Approval(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    chain: str


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One member of ``allow``, ``deny`` or ``escalate``."""

    code: str
    message: str = ""
    remedy: str = ""
    approval: Approval | None = None


class Duty(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One member of ``obligation``."""

    kind: str
    value: Json
    code: str = ""
    message: str = ""


class Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one module answers, typed: the engine's JSON is decoded into this or refused."""

    allow: tuple[Member, ...] = ()
    deny: tuple[Member, ...] = ()
    escalate: tuple[Member, ...] = ()
    obligation: tuple[Duty, ...] = ()


class Contribution(msgspec.Struct, frozen=True):
    """What one module contributes; ``fault`` when it could not say."""

    rule: Rule
    allow: tuple[Finding, ...] = ()
    deny: tuple[Finding, ...] = ()
    escalate: tuple[Finding, ...] = ()
    duties: tuple[Obligation, ...] = ()
    fault: bool = False


class Combined(msgspec.Struct, frozen=True):
    verdict: Verdict
    findings: tuple[Finding, ...]
    duties: tuple[Obligation, ...] = ()
    notes: tuple[Finding, ...] = ()
    observed: tuple[Observed, ...] = ()


def contribution(rule: Rule, said: Said) -> Contribution:
    """Words of a module as findings. A code it does not declare makes the whole contribution a deny."""
    for member in (*said.allow, *said.deny, *said.escalate):
        if member.code not in rule.codes:
            return fault(rule, "undeclared_code")
    for duty in said.obligation:
        if duty.code and duty.code not in rule.codes:
            return fault(rule, "undeclared_code")
    return Contribution(
        rule,
        tuple(_finding(rule, member) for member in said.allow),
        tuple(_finding(rule, member) for member in said.deny),
        tuple(_finding(rule, member, "default") for member in said.escalate),
        tuple(Obligation(kind=duty.kind, value=duty.value, rule=rule.id) for duty in said.obligation),
    )


def fault(rule: Rule, code: str) -> Contribution:
    """The contribution of a module that raised, was undefined or answered nonsense."""
    return Contribution(rule, deny=(_own(code, rule.id),), fault=True)


def combine(
    contributions: Iterable[Contribution],
    otherwise: Literal["deny", "allow"],
    duties: Collection[str],
    always: Collection[str] = (),
) -> Combined:
    """``otherwise`` is the verdict when nothing speaks; ``duties`` are the obligations the phase can meet.

    ``always`` are those that hold beside a deny too.
    """
    allow: list[Finding] = []
    deny: list[Finding] = []
    escalate: list[Finding] = []
    asked: list[Obligation] = []
    notes: list[Finding] = []
    observed: list[Observed] = []
    for part in contributions:
        if part.rule.mode == "enforce":
            allow += part.allow
            deny += part.deny
            escalate += part.escalate
            asked += part.duties
        elif part.rule.mode == "warn" and not part.fault:
            notes += part.deny
            notes += part.escalate
        else:
            observed += _observed(part)
    merged: tuple[Obligation, ...] = ()
    if asked:
        try:
            # In an order of their own: which of two faults is named must not depend on that of the modules.
            merged = obligations.merge(sorted(asked, key=_duty_order), duties)
        except obligations.Conflict as conflict:
            deny.append(_own("obligation_conflict", conflict.rule))
    rest = (_sorted(notes), tuple(sorted(observed, key=_observed_order)))
    if deny:  # a call that does not happen owes nothing
        return Combined("deny", _sorted(deny), tuple(duty for duty in merged if duty.kind in always), *rest)
    if escalate:
        return Combined("escalate", _sorted(escalate), merged, *rest)
    if allow or otherwise == "allow":
        return Combined("allow", _sorted(allow), merged, *rest)
    return Combined("deny", (_own("no_rule_allows", ""),), (), *rest)


def _finding(rule: Rule, member: Member, chain: str = "") -> Finding:
    return Finding(
        code=member.code,
        message=member.message[:_MAX_TEXT],
        rule=rule.id,
        remedy=member.remedy[:_MAX_TEXT],
        severity=rule.severity,
        chain=member.approval.chain if member.approval is not None else chain,
    )


def _own(code: str, rule: str) -> Finding:
    """A finding in the gateway's own words; details are for operators."""
    reason = REASONS[code]
    return Finding(code=code, message=reason.message, remedy=reason.remedy, rule=rule)


def _observed(part: Contribution) -> list[Observed]:
    if part.fault:
        return [Observed(rule=part.rule.id, verdict="error", findings=part.deny)]
    verdicts: tuple[tuple[Verdict, tuple[Finding, ...]], ...] = (
        ("deny", part.deny), ("escalate", part.escalate), ("allow", part.allow),
    )  # fmt: skip
    for verdict, findings in verdicts:
        if findings:
            return [Observed(rule=part.rule.id, verdict=verdict, findings=_sorted(findings))]
    return []


def _sorted(findings: Collection[Finding]) -> tuple[Finding, ...]:
    """Most severe first, the gateway's own last; the first one gives a refusal its code."""
    return tuple(findings) if len(findings) < 2 else tuple(sorted(set(findings), key=_order))


def _order(finding: Finding) -> tuple[int, str, str, str, str, str]:
    rank = SEVERITY_RANK.get(finding.severity, -1)
    return (-rank, finding.rule, finding.code, finding.message, finding.remedy, finding.chain)


def _duty_order(duty: Obligation) -> tuple[str, str, str]:
    return (duty.rule, duty.kind, repr(duty.value))


def _observed_order(item: Observed) -> tuple[str, str, str]:
    return (item.rule, item.verdict, repr(item.findings))
