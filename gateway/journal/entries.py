"""What is handed to the writer thread, and the rows it becomes there.

The event loop only puts frozen values into an entry; encoding, sealing and hashing happen in the writer
thread. A row binds only the columns it has, because each costs a quarter of a microsecond.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from hashlib import sha256
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import Table

from gateway.model import (
    Action,
    Call,
    Decision,
    Facts,
    Finding,
    Mark,
    Obligation,
    Observed,
    Outcome,
    Principal,
    Revisions,
    Tool,
    Verified,
)
from gateway.ports import Permit
from gateway.storage.crypto import StorageKey
from gateway.storage.tables import payloads, records, snapshots

Phase = Literal["intent", "result", "in_doubt", "refused", "reconciled", "not_sent", "verified", "erased"]

MAX_DETAIL: Final = 1000  # characters


class Intent(msgspec.Struct, frozen=True, gc=False):
    """A call that is about to happen, or one that was decided and refused."""

    at_ns: int
    call: Call
    facts: Facts
    decision: Decision
    action: Action
    code: str  # why it is refused, when it is
    revisions: Revisions
    mark: Mark | None = None  # of a refusal: what it did to its session
    permit: Permit | None = None  # an approval that is claimed in the same transaction

    @property
    def happens(self) -> bool:
        return self.action in ("allow", "modify")


class End(msgspec.Struct, frozen=True, gc=False):
    """What became of a call."""

    at_ns: int
    call: Call
    action: Action
    outcome: Outcome | None  # ``None``: nothing was sent
    result: Decision | None  # of the result policy
    revisions: Revisions
    mark: Mark | None = None
    permit: Permit | None = None  # an approval that hears of it in the same transaction


class Early(msgspec.Struct, frozen=True, gc=False):
    """A request refused before it became a call."""

    at_ns: int
    id: str
    code: str
    surface: str
    principal: Principal | None
    detail: str
    revisions: Revisions


class Checked(msgspec.Struct, frozen=True, gc=False):
    """What became of verifying a call that was answered."""

    at_ns: int
    found: Verified


Entry = Intent | End | Early | Checked


class IntentBody(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a record of an intent or a refusal says besides its columns."""

    agent_ref: str  # snapshot of the principal
    tool_ref: str  # snapshot of the tool with its manifest
    in_force_ref: str  # snapshot of engine, entry, rules, controls and revisions
    surface: str
    thread: str
    received_ns: int  # the time policy was given
    args_size: int  # bytes
    mode: str
    traceparent: str
    modified_from: str  # digest before an obligation changed the arguments
    facts: Facts
    findings: tuple[Finding, ...] = ()
    obligations: tuple[Obligation, ...] = ()
    notes: tuple[Finding, ...] = ()
    observed: tuple[Observed, ...] = ()
    labels: tuple[str, ...] = ()
    memoised: int = 0
    elapsed_ns: int = 0
    end: EndBody | None = None  # of a read that was answered before this was written
    mark: Mark | None = None  # of a refusal
    slow_ref: str = ""  # snapshot of the slow facts, which ``facts`` leaves out
    envelope: str = ""  # the break-glass envelope that let the call through instead of people


class ResultSaid(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What the result policy said."""

    verdict: str
    code: str
    in_force_ref: str
    findings: tuple[Finding, ...] = ()
    obligations: tuple[Obligation, ...] = ()
    notes: tuple[Finding, ...] = ()
    observed: tuple[Observed, ...] = ()
    labels: tuple[str, ...] = ()
    memoised: int = 0
    elapsed_ns: int = 0


class EndBody(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a record of an outcome says besides its columns."""

    detail: str = ""
    started_ns: int = 0
    upstream_ns: int = 0
    result_size: int = 0  # bytes
    result: ResultSaid | None = None
    answered: str = ""  # of a withheld result: the status policy was asked about
    mark: Mark | None = None


class EarlyBody(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a record of a request says that never became a call."""

    surface: str
    in_force_ref: str
    agent_ref: str = ""
    detail: str = ""


class CheckedBody(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a record of a verification says besides its columns."""

    verifier: str  # the tool that was read
    read: str = ""  # call id of the last read
    reads: int = 0
    detail: str = ""


_INTENT: Final = (
    "call_id", "phase", "at_ns", "tenant", "agent", "subject", "chain", "session",
    "target", "risk", "digest", "effect_key", "verdict", "action", "code", "args_mac", "payload", "body",
)  # fmt: skip
_END: Final = (
    "call_id", "phase", "at_ns", "tenant", "effect_key", "status", "outcome_code", "result_mac", "payload",
    "body",
)  # fmt: skip
_WHOLE: Final = (*_INTENT, "status", "outcome_code", "result_mac")
_EARLY: Final = ("call_id", "phase", "at_ns", "tenant", "agent", "action", "code", "body")
_CHECKED: Final = ("call_id", "phase", "at_ns", "tenant", "status", "body")
_PAYLOAD: Final = ("id", "key_id", "nonce", "ciphertext")


def _insert(table: Table, names: tuple[str, ...], end: str = "") -> str:
    """The text of an INSERT, made once: compiling parameters row by row would double its cost."""
    columns = ", ".join(table.c[name].name for name in names)
    return f"INSERT INTO {table.name} ({columns}) VALUES ({', '.join('?' * len(names))}){end}"  # noqa: S608 - names of columns


INSERT_INTENT: Final = _insert(records, _INTENT)
INSERT_END: Final = _insert(records, _END)
INSERT_WHOLE: Final = _insert(records, _WHOLE)
INSERT_EARLY: Final = _insert(records, _EARLY)
INSERT_CHECKED: Final = _insert(records, _CHECKED)
INSERT_PAYLOAD: Final = _insert(payloads, _PAYLOAD)
INSERT_SNAPSHOT: Final = _insert(snapshots, ("ref", "json"), " ON CONFLICT DO NOTHING")

_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="deterministic").encode  # equal content, equal hash


class Rows:
    """The rows of one batch, in the order in which they must be inserted."""

    __slots__ = ("checks", "earlies", "ends", "intents", "payloads", "snapshots", "wholes")

    def __init__(self) -> None:
        self.snapshots: list[tuple[Any, ...]] = []
        self.intents: list[tuple[Any, ...]] = []
        self.wholes: list[tuple[Any, ...]] = []
        self.ends: list[tuple[Any, ...]] = []
        self.earlies: list[tuple[Any, ...]] = []
        self.checks: list[tuple[Any, ...]] = []
        self.payloads: list[tuple[Any, ...]] = []

    def statements(self) -> Iterable[tuple[str, list[tuple[Any, ...]]]]:
        yield INSERT_SNAPSHOT, self.snapshots
        yield INSERT_INTENT, self.intents
        yield INSERT_WHOLE, self.wholes
        yield INSERT_END, self.ends
        yield INSERT_EARLY, self.earlies
        yield INSERT_CHECKED, self.checks
        yield INSERT_PAYLOAD, self.payloads


class Encoder:
    """Turns entries into rows. Lives in the writer thread."""

    def __init__(self, key: StorageKey, controls: tuple[str, ...], keep_payloads: bool) -> None:
        self._key = key
        self.controls = controls
        self._keep = keep_payloads
        self._sealer = key.sealer(time.time_ns())
        self._last_payload = 0
        # By identity, because the catalog and identity hand out the same object for many calls and hashing
        # one costs more than the row; the object is kept so that its identity cannot be reused.
        self._objects: dict[int, tuple[object, str]] = {}
        self._in_force: dict[tuple[Any, ...], str] = {}

    def forget(self) -> None:
        """After a batch that was rolled back: its snapshots are not stored, so they must be sent again."""
        self._objects.clear()
        self._in_force.clear()

    def payloads_after(self, last: int) -> None:
        """Where the numbering of payloads goes on, should the clock have been set back."""
        self._last_payload = last

    def rows(self, entries: Iterable[Entry]) -> Rows:
        """The rows of one batch."""
        rows = Rows()
        self._sealer = self._key.sealer(time.time_ns())
        reads: dict[str, Intent] = {}  # whose answer may be in the same batch
        for entry in entries:
            if type(entry) is Intent:
                if entry.happens and not entry.call.tool.writes:
                    reads[entry.call.id] = entry
                else:
                    self._intent(entry, rows)
            elif type(entry) is End:
                intent = reads.pop(entry.call.id, None)
                if intent is None:
                    self._end(entry, rows)
                else:
                    self._whole(intent, entry, rows)
            elif type(entry) is Early:
                self._early(entry, rows)
            elif type(entry) is Checked:
                rows.checks.append(_checked(entry))
        for intent in reads.values():
            self._intent(intent, rows)
        return rows

    def _intent(self, entry: Intent, rows: Rows) -> None:
        payload = None
        # The arguments of a read wait for its result: one sealed row instead of two.
        if self._keep and (entry.call.tool.writes or not entry.happens):
            content = b"{" + _arguments(entry.call) + b"}"
            payload = self._payload(entry.at_ns, entry.call.id, content, rows)
        phase: Phase = "intent" if entry.happens else "refused"
        rows.intents.append(self._decided(entry, phase, payload, None, rows))

    def _end(self, entry: End, rows: Rows) -> None:
        call = entry.call
        status, outcome_code, mac, payload, body = self._became(entry, rows)
        rows.ends.append((
            call.id, phase_of(call, entry.outcome), entry.at_ns, call.principal.tenant, _effect_key(call),
            status, outcome_code, mac, payload, _encode(body).decode(),
        ))  # fmt: skip

    def _whole(self, intent: Intent, end: End, rows: Rows) -> None:
        status, outcome_code, mac, payload, body = self._became(end, rows)
        decided = self._decided(intent, phase_of(end.call, end.outcome), payload, body, rows)
        rows.wholes.append((*decided, status, outcome_code, mac))

    def _decided(
        self, entry: Intent, phase: Phase, payload: int | None, end: EndBody | None, rows: Rows
    ) -> tuple[Any, ...]:
        """The values of ``_INTENT``."""
        call, decision = entry.call, entry.decision
        principal, tool, facts = call.principal, call.tool, entry.facts
        slow_ref = ""
        if facts.slow:  # a mandate is the same in many records
            slow_ref = self._snapshot(facts.slow, rows)
            facts = msgspec.structs.replace(facts, slow={})
        body = IntentBody(
            self._snapshot(principal, rows), self._snapshot(tool, rows),
            self._force(decision, entry.revisions, rows),
            call.surface, call.thread, call.received_ns, len(call.args_json), call.mode, call.traceparent,
            call.modified_from, facts, decision.findings, decision.obligations, decision.notes,
            decision.observed, decision.labels, decision.memoised, decision.elapsed_ns, end, entry.mark,
            slow_ref, _envelope(facts),
        )  # fmt: skip
        return (
            call.id, phase, entry.at_ns, principal.tenant, principal.agent, principal.subject,
            _encode(principal.chain).decode() if principal.chain else None, call.session,
            tool.target, tool.manifest.risk, call.digest, _effect_key(call),
            decision.verdict, entry.action, entry.code or decision.code,
            self._key.mac(f"{call.id}/arguments", call.args_json), payload, _encode(body).decode(),
        )  # fmt: skip

    def _became(self, entry: End, rows: Rows) -> tuple[str, str | None, str | None, int | None, EndBody]:
        """Status, outcome code, MAC of the result, payload and body of an outcome."""
        call, outcome, result = entry.call, entry.outcome or _NOTHING_SENT, entry.result
        content = outcome.result_json or outcome.error_json
        which = "result" if outcome.result_json else "error"
        members = [] if call.tool.writes else [_arguments(call)]
        if content:
            members.append(b'"%b":%b' % (which.encode(), content))
        payload = None
        if self._keep and members:
            payload = self._payload(entry.at_ns, call.id, b"{" + b",".join(members) + b"}", rows)
        body = EndBody(
            outcome.detail[:MAX_DETAIL], outcome.started_ns, outcome.upstream_ns, len(content),
            self._said(result, entry.revisions, rows) if result else None, outcome.answered, entry.mark,
        )  # fmt: skip
        mac = self._key.mac(f"{call.id}/{which}", content) if content else None
        return outcome.status, outcome.code or None, mac, payload, body

    def _said(self, result: Decision, revisions: Revisions, rows: Rows) -> ResultSaid:
        return ResultSaid(
            result.verdict, result.code, self._force(result, revisions, rows), result.findings,
            result.obligations, result.notes, result.observed, result.labels, result.memoised,
            result.elapsed_ns,
        )  # fmt: skip

    def _early(self, entry: Early, rows: Rows) -> None:
        principal = entry.principal
        body = EarlyBody(
            entry.surface,
            self._force(_NO_DECISION, entry.revisions, rows),
            self._snapshot(principal, rows) if principal else "",
            entry.detail[:MAX_DETAIL],
        )
        rows.earlies.append((
            entry.id, "refused", entry.at_ns, principal.tenant if principal else "",
            principal.agent if principal else None, "block", entry.code, _encode(body).decode(),
        ))  # fmt: skip

    def _payload(self, at_ns: int, call_id: str, content: bytes, rows: Rows) -> int:
        number = self._last_payload = max(self._last_payload + 1, at_ns)
        rows.payloads.append((number, *self._sealer.seal(payload_name(call_id, number), content)))
        return number

    def _snapshot(self, value: object, rows: Rows) -> str:
        known = self._objects.get(id(value))
        if known is not None and known[0] is value:
            return known[1]
        if len(self._objects) >= _MAX_KNOWN:
            self._objects.clear()
        ref = _store(value, rows)
        self._objects[id(value)] = (value, ref)
        return ref

    def _force(self, decision: Decision, revisions: Revisions, rows: Rows) -> str:
        controls = self.controls
        key = (decision.engine, decision.entry, decision.revision, decision.rules, revisions, controls)
        ref = self._in_force.get(key)
        if ref is None:
            if len(self._in_force) >= _MAX_KNOWN:
                self._in_force.clear()
            ref = self._in_force[key] = _store(
                {
                    "engine": decision.engine,
                    "entry": decision.entry,
                    "rules": decision.rules,
                    "controls": controls,
                    "policy_revision": decision.revision or revisions.policy,
                    "config_revision": revisions.config,
                    "keys_revision": revisions.keys,
                    "catalog_revision": revisions.catalog,
                },
                rows,
            )
        return ref


def payload_name(call_id: str, number: int) -> str:
    """What a payload is sealed to: it opens only in the place it was written for."""
    return f"{call_id}/{number}"


def phase_of(call: Call, outcome: Outcome | None) -> Phase:
    """How a record of this outcome is called; no outcome means that nothing was sent."""
    if outcome is None or outcome.status == "not_sent":
        return "not_sent"
    # A read without an answer changed nothing, so there is nothing for a person to find out.
    if outcome.status == "in_doubt" and call.tool.writes:
        return "in_doubt"
    return "result"


def _store(value: object, rows: Rows) -> str:
    if isinstance(value, Tool):  # its hash names the definition, which can be large
        value = msgspec.structs.replace(value, definition_json=b"")
    elif isinstance(value, Principal) and value.mandate_json:  # it has the words of a user in it
        value = msgspec.structs.replace(value, mandate_json=b"")
    encoded = _encode_sorted(value)
    ref = sha256(encoded).hexdigest()[:32]
    rows.snapshots.append((ref, encoded.decode()))
    return ref


def _checked(entry: Checked) -> tuple[Any, ...]:
    """The values of ``_CHECKED``."""
    found = entry.found
    verify = found.tool.manifest.verify
    verifier = f"{found.tool.upstream}/{verify.tool}" if verify is not None else ""
    body = CheckedBody(verifier, found.read, found.reads, found.detail[:MAX_DETAIL])
    return (
        found.call_id, "verified", entry.at_ns, found.principal.tenant, found.result, _encode(body).decode(),
    )  # fmt: skip


def _effect_key(call: Call) -> str | None:
    return None if call.effect_key == call.id else call.effect_key


def _arguments(call: Call) -> bytes:
    """The pointers travel with the arguments, so that a later change of the manifest reveals nothing."""
    pointers = call.tool.manifest.sensitive
    said = b'"arguments":' + call.args_json
    if call.inputs_json:
        said += b',"inputs":' + call.inputs_json
    if call.asked_json:
        said += b',"asked":' + call.asked_json
    return b'"sensitive":' + _encode(pointers) + b"," + said if pointers else said


_MAX_KNOWN: Final = 20_000
_NOTHING_SENT: Final = Outcome(status="not_sent")
_NO_DECISION: Final = Decision(verdict="deny", findings=())


def _envelope(facts: Facts) -> str:
    """The envelope that stands in what policy was told of people's consent."""
    agreed = facts.fast.get("approval")
    return str(agreed.get("envelope", "")) if isinstance(agreed, dict) else ""
