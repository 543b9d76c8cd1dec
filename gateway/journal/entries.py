"""What is handed to the writer thread, and the rows it becomes there.

The event loop only puts frozen values into an entry; encoding, sealing and hashing happen in the writer
thread. A row binds only the columns it has, because each costs a quarter of a microsecond.
"""

from __future__ import annotations

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
    Obligation,
    Observed,
    Outcome,
    Principal,
    Revisions,
    Tool,
)
from gateway.storage.crypto import StorageKey
from gateway.storage.tables import payloads, records, snapshots

Phase = Literal["intent", "result", "in_doubt", "refused", "reconciled", "not_sent", "erased"]

MAX_DETAIL: Final = 1000  # characters


class Intent(msgspec.Struct, frozen=True):
    """A call that is about to happen, or one that was decided and refused."""

    at_ns: int
    call: Call
    facts: Facts
    decision: Decision
    action: Action
    code: str  # why it is refused, when it is
    revisions: Revisions

    @property
    def happens(self) -> bool:
        return self.action in ("allow", "modify")


class End(msgspec.Struct, frozen=True):
    """What became of a call."""

    at_ns: int
    call: Call
    action: Action
    outcome: Outcome | None  # ``None``: nothing was sent
    result: Decision | None  # of the result policy
    revisions: Revisions


class Early(msgspec.Struct, frozen=True):
    """A request refused before it became a call."""

    at_ns: int
    id: str
    code: str
    surface: str
    principal: Principal | None
    detail: str
    revisions: Revisions


Entry = Intent | End | Early


class _Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of a decision that differs from call to call."""

    findings: tuple[Finding, ...] = ()
    obligations: tuple[Obligation, ...] = ()
    notes: tuple[Finding, ...] = ()
    observed: tuple[Observed, ...] = ()
    labels: tuple[str, ...] = ()
    memoised: int = 0
    elapsed_ns: int = 0


_INTENT: Final = (
    "call_id", "phase", "at_ns", "tenant", "agent", "subject", "chain", "agent_ref",
    "session", "thread", "surface", "traceparent",
    "target", "tool_ref", "risk", "digest", "modified_from", "effect_key", "args_hmac", "args_size",
    "received_ns", "verdict", "action", "mode", "code", "decision", "facts", "in_force_ref", "outcome_code",
)  # fmt: skip
_END: Final = (
    "call_id", "phase", "at_ns", "tenant", "agent", "target", "effect_key", "action",
    "verdict", "code", "decision", "in_force_ref",
    "status", "outcome_code", "detail", "started_ns", "upstream_ns", "result_hmac", "result_size",
)  # fmt: skip
_EARLY: Final = (
    "call_id", "phase", "at_ns", "tenant", "agent", "agent_ref", "surface", "action", "code", "detail",
    "in_force_ref",
)  # fmt: skip
_PAYLOAD: Final = ("call_id", "which", "key_id", "nonce", "ciphertext")


def _insert(table: Table, names: tuple[str, ...], verb: str = "INSERT") -> str:
    """The text of an INSERT, made once: compiling parameters row by row would double its cost."""
    columns = ", ".join(table.c[name].name for name in names)
    return f"{verb} INTO {table.name} ({columns}) VALUES ({', '.join('?' * len(names))})"


INSERT_INTENT: Final = _insert(records, _INTENT)
INSERT_END: Final = _insert(records, _END)
INSERT_EARLY: Final = _insert(records, _EARLY)
INSERT_PAYLOAD: Final = _insert(payloads, _PAYLOAD)
INSERT_SNAPSHOT: Final = _insert(snapshots, ("ref", "json"), "INSERT OR IGNORE")

_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="deterministic").encode  # equal content, equal hash


class Rows:
    """The rows of one batch, in the order in which they must be inserted."""

    __slots__ = ("earlies", "ends", "intents", "payloads", "snapshots")

    def __init__(self) -> None:
        self.snapshots: list[tuple[Any, ...]] = []
        self.intents: list[tuple[Any, ...]] = []
        self.ends: list[tuple[Any, ...]] = []
        self.earlies: list[tuple[Any, ...]] = []
        self.payloads: list[tuple[Any, ...]] = []

    def statements(self) -> Iterable[tuple[str, list[tuple[Any, ...]]]]:
        yield INSERT_SNAPSHOT, self.snapshots
        yield INSERT_INTENT, self.intents
        yield INSERT_END, self.ends
        yield INSERT_EARLY, self.earlies
        yield INSERT_PAYLOAD, self.payloads


class Encoder:
    """Turns entries into rows. Lives in the writer thread."""

    def __init__(self, key: StorageKey, controls: tuple[str, ...], keep_payloads: bool) -> None:
        self._key = key
        self._controls = controls
        self._keep = keep_payloads
        # By identity, because the catalog and identity hand out the same object for many calls and hashing
        # one costs more than the row; the object is kept so that its identity cannot be reused.
        self._objects: dict[int, tuple[object, str]] = {}
        self._in_force: dict[tuple[Any, ...], str] = {}

    def forget(self) -> None:
        """After a batch that was rolled back: its snapshots are not stored, so they must be sent again."""
        self._objects.clear()
        self._in_force.clear()

    def add(self, entry: Entry, rows: Rows) -> None:
        if type(entry) is Intent:
            self._intent(entry, rows)
        elif type(entry) is End:
            self._end(entry, rows)
        elif type(entry) is Early:
            self._early(entry, rows)

    def _intent(self, entry: Intent, rows: Rows) -> None:
        call, decision, principal, tool = entry.call, entry.decision, entry.call.principal, entry.call.tool
        happens = entry.happens
        rows.intents.append((
            call.id, "intent" if happens else "refused", entry.at_ns,
            principal.tenant, principal.agent, principal.subject,
            _text(principal.chain) if principal.chain else None, self._snapshot(principal, rows),
            call.session, call.thread or None, call.surface, call.traceparent or None,
            tool.target, self._snapshot(tool, rows), tool.manifest.risk,
            call.digest, call.modified_from or None, _effect_key(call),
            self._key.hmac(call.id, "arguments", call.args_json), len(call.args_json),
            call.received_ns, decision.verdict, entry.action, call.mode, decision.code,
            _said(decision), _text(entry.facts), self._force(decision, entry.revisions, rows),
            None if happens else entry.code or decision.code,
        ))  # fmt: skip
        # The arguments of a read wait for its result: one sealed row instead of two.
        if tool.writes or not happens:
            self._payload(
                call.id, "intent", b'{"arguments":' + call.args_json + _sensitive(call) + b"}", rows
            )

    def _end(self, entry: End, rows: Rows) -> None:
        call, outcome, result = entry.call, entry.outcome or _NOTHING_SENT, entry.result
        content = outcome.result_json or outcome.error_json
        which = "result" if outcome.result_json else "error"
        rows.ends.append((
            call.id, phase_of(outcome), entry.at_ns, call.principal.tenant, call.principal.agent,
            call.tool.target, _effect_key(call), entry.action,
            result.verdict if result else None, result.code if result else None,
            _said(result) if result else None,
            self._force(result, entry.revisions, rows) if result else None,
            outcome.status, outcome.code or None, outcome.detail[:MAX_DETAIL] or None,
            outcome.started_ns or None, outcome.upstream_ns or None,
            self._key.hmac(call.id, which, content) if content else None, len(content),
        ))  # fmt: skip
        members = []
        if not call.tool.writes:
            members.append(b'"arguments":' + call.args_json + _sensitive(call))
        if content:
            members.append(b'"%b":%b' % (which.encode(), content))
        if members:
            self._payload(call.id, "end", b"{" + b",".join(members) + b"}", rows)

    def _early(self, entry: Early, rows: Rows) -> None:
        principal = entry.principal
        rows.earlies.append((
            entry.id, "refused", entry.at_ns, principal.tenant if principal else "",
            principal.agent if principal else None, self._snapshot(principal, rows) if principal else None,
            entry.surface, "block", entry.code, entry.detail[:MAX_DETAIL] or None,
            self._force(_NO_DECISION, entry.revisions, rows),
        ))  # fmt: skip

    def _payload(self, call_id: str, which: str, content: bytes, rows: Rows) -> None:
        if self._keep:
            rows.payloads.append((call_id, which, *self._key.seal(call_id, which, content)))

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
        key = (decision.engine, decision.entry, decision.revision, decision.rules, revisions)
        ref = self._in_force.get(key)
        if ref is None:
            if len(self._in_force) >= _MAX_KNOWN:
                self._in_force.clear()
            ref = self._in_force[key] = _store(
                {
                    "engine": decision.engine,
                    "entry": decision.entry,
                    "rules": decision.rules,
                    "controls": self._controls,
                    "policy_revision": decision.revision or revisions.policy,
                    "config_revision": revisions.config,
                    "keys_revision": revisions.keys,
                    "catalog_revision": revisions.catalog,
                },
                rows,
            )
        return ref


def phase_of(outcome: Outcome) -> Phase:
    """A proven non-send has no effect; ``failed`` and every answer ends the call; the rest is in doubt."""
    if outcome.status in ("in_doubt", "not_sent"):
        return outcome.status
    return "result"


def _store(value: object, rows: Rows) -> str:
    if isinstance(value, Tool):  # its hash names the definition, which can be large
        value = msgspec.structs.replace(value, definition_json=b"")
    encoded = _encode_sorted(value)
    ref = sha256(encoded).hexdigest()[:32]
    rows.snapshots.append((ref, encoded.decode()))
    return ref


def _effect_key(call: Call) -> str | None:
    return None if call.effect_key == call.id else call.effect_key


def _sensitive(call: Call) -> bytes:
    """The pointers travel with the arguments, so that a later change of the manifest reveals nothing."""
    pointers = call.tool.manifest.sensitive
    return b',"sensitive":' + _encode(pointers) if pointers else b""


def _said(decision: Decision) -> str:
    return _text(
        _Said(
            decision.findings,
            decision.obligations,
            decision.notes,
            decision.observed,
            decision.labels,
            decision.memoised,
            decision.elapsed_ns,
        )
    )


def _text(value: object) -> str:
    return _encode(value).decode()


_MAX_KNOWN: Final = 20_000
_NOTHING_SENT: Final = Outcome(status="not_sent")
_NO_DECISION: Final = Decision(verdict="deny", findings=())
