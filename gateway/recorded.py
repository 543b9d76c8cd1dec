"""A decision as it is on record, with everything policy was given: what replay and explanation start from.

The journal makes these and policy takes them, so the word stands beside both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from gateway.model import Call, Facts, Finding, Mark, Obligation, Outcome, Principal, Verdict

Missing = Literal["no_payload", "unreadable", "not_asked", "unfinished", "no_original", "no_snapshot"]
"""Why a decision cannot be made again:

    no_payload    arguments were never kept, were erased, or are older than the retention
    unreadable    sealed with another key, or altered
    not_asked     the gateway refused before policy was asked (no facts)
    unfinished    a read whose record is not complete yet
    no_original   arguments were changed by an obligation, and the original is not on record
    no_snapshot   the agent or tool as it was is not on record
"""


class Happened(msgspec.Struct, frozen=True, kw_only=True):
    """What one record says of a session and of budgets: one of the three."""

    call: str
    session: str
    principal: Principal
    mark: Mark | None = None  # of an outcome or a refusal
    reserved: Mapping[str, int] | None = None  # by a call whose outcome is in no record
    executed: bool | None = None  # what a person found out about a call in doubt


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What policy said then, of the call or of its result."""

    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    obligations: tuple[Obligation, ...] = ()
    revision: str = ""
    rules: tuple[str, ...] = ()  # ids of the modules in scope

    @property
    def code(self) -> str:
        return self.findings[0].code if self.findings else ""


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """One decision. ``call`` is as the agent asked it, before any obligation; ``None`` with ``missing``."""

    seq: int
    call_id: str
    at_ns: int
    agent: str
    target: str
    said: Said
    call: Call | None = None
    facts: Facts = Facts()
    sent_json: bytes = b""  # the arguments as sent, when an obligation changed them
    sensitive: tuple[str, ...] = ()  # JSON pointers into the arguments that are not shown
    outcome: Outcome | None = None  # as the upstream answered, when its result was judged and is kept
    result_said: Said | None = None
    missing: Missing | None = None
