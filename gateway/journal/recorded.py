"""Recorded decisions with their inputs, put together again from columns, snapshots and sealed payloads.

Read-only, in lots of bounded size, each a transaction of its own: it works beside a running gateway and
keeps neither memory nor the write-ahead log growing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import orjson
from sqlalchemy import Connection, Row, func, select

from gateway.journal.entries import EndBody, IntentBody, ResultSaid, payload_name
from gateway.journal.query import Filter, conditions
from gateway.model import Call, Facts, Outcome, Principal, Tool
from gateway.recorded import Missing, Recorded, Said
from gateway.storage.crypto import Sealed, StorageKey, Unreadable
from gateway.storage.database import Database
from gateway.storage.tables import payloads, pins, records, snapshots

_LOT: Final = 400
_KEPT: Final = 20_000


class _InForce(msgspec.Struct, frozen=True):
    engine: str = ""
    policy_revision: str = ""
    rules: tuple[str, ...] = ()


_body: Final = msgspec.json.Decoder(IntentBody).decode
_end: Final = msgspec.json.Decoder(EndBody).decode
_NOTHING: Final = msgspec.Raw()


class _Payload(msgspec.Struct):
    """A sealed payload; arguments and results stay bytes until somebody needs them parsed."""

    arguments: msgspec.Raw = _NOTHING
    asked: msgspec.Raw = _NOTHING
    inputs: msgspec.Raw = _NOTHING
    sensitive: tuple[str, ...] = ()
    result: msgspec.Raw = _NOTHING
    error: msgspec.Raw = _NOTHING


_opened: Final = msgspec.json.Decoder(_Payload).decode


class Inputs:
    """Reads recorded inputs. Principals and tools that are equal are one object, as in a running gateway."""

    def __init__(self, database: Database, key: StorageKey) -> None:
        self._database = database
        self._key = key
        self._known: dict[str, Any] = {}
        self._definitions: dict[str, bytes] | None = None

    def count(self, narrow: Filter) -> int:
        query = select(func.count()).select_from(records).where(*_decided(narrow))
        with self._database.reading() as connection:
            found: int = connection.execute(query).scalar_one()
        return found

    def one(self, call_id: str, tenant: str | None = None) -> Recorded | None:
        """The decision of one call."""
        return next(self.read(Filter(call=call_id, tenant=tenant)), None)

    def read(self, narrow: Filter, limit: int | None = None) -> Iterator[Recorded]:
        """Every decision of policy that matches, oldest first; with a limit the newest so many."""
        wanted = _decided(narrow)
        after = self._before_newest(wanted, limit) if limit is not None else 0
        while True:
            query = select(records).where(*wanted, records.c.seq > after).order_by(records.c.seq).limit(_LOT)
            with self._database.reading() as connection:
                rows = connection.execute(query).all()
                found = self._lot(connection, rows)
            yield from found
            if len(rows) < _LOT:
                return
            after = rows[-1].seq

    def spoken(self, narrow: Filter, limit: int | None = None) -> Counter[str]:
        """How many decisions each rule had a say in, in whatever mode. Needs no payload."""
        wanted = _decided(narrow)
        found: Counter[str] = Counter()
        after = self._before_newest(wanted, limit) if limit is not None else 0
        while True:
            query = select(records).where(*wanted, records.c.seq > after).order_by(records.c.seq).limit(_LOT)
            with self._database.reading() as connection:
                rows = connection.execute(query).all()
                ends = _ends(connection, rows)
            for row in rows:
                body = _body(row.body)
                end = _end(ends[row.call_id].body) if row.call_id in ends else body.end
                found.update(_speakers(body) | (_speakers(end.result) if end and end.result else set()))
            if len(rows) < _LOT:
                return found
            after = rows[-1].seq

    def _before_newest(self, wanted: Sequence[Any], limit: int) -> int:
        query = select(records.c.seq).where(*wanted).order_by(records.c.seq.desc()).offset(limit).limit(1)
        with self._database.reading() as connection:
            return connection.execute(query).scalar() or 0

    def _lot(self, connection: Connection, rows: Sequence[Row[Any]]) -> list[Recorded]:
        ends = _ends(connection, rows)
        numbers = [row.payload for row in (*rows, *ends.values()) if row.payload is not None]
        sealed = {
            row.id: Sealed(row.key_id, row.nonce, row.ciphertext)
            for row in connection.execute(select(payloads).where(payloads.c.id.in_(numbers)))
        }
        bodies = [_body(row.body) for row in rows]
        finished = [_end(ends[row.call_id].body) if row.call_id in ends else None for row in rows]
        self._learn(connection, bodies, finished)
        return [
            self._recorded(row, body, ends.get(row.call_id), end or body.end, sealed)
            for row, body, end in zip(rows, bodies, finished, strict=True)
        ]

    def _learn(
        self, connection: Connection, bodies: Sequence[IntentBody], ends: Sequence[EndBody | None]
    ) -> None:
        """Decode the snapshots that are not known yet."""
        wanted: dict[str, Any] = {}
        for body, end in zip(bodies, ends, strict=True):
            wanted[body.agent_ref] = Principal
            wanted[body.tool_ref] = Tool
            wanted[body.in_force_ref] = _InForce
            if body.slow_ref:
                wanted[body.slow_ref] = dict
            said = (end or body.end or EndBody()).result
            if said is not None:
                wanted[said.in_force_ref] = _InForce
        if len(self._known) > _KEPT:
            self._known.clear()
        refs = [ref for ref in wanted if ref not in self._known]
        if not refs:
            return
        if self._definitions is None:
            self._definitions = dict(connection.execute(select(pins.c.listed_hash, pins.c.listed_json)).all())
            accepted = select(pins.c.accepted_hash, pins.c.accepted_json).where(
                pins.c.accepted_hash.is_not(None)
            )
            self._definitions |= dict(connection.execute(accepted).all())
        for row in connection.execute(select(snapshots).where(snapshots.c.ref.in_(refs))):
            value = msgspec.json.decode(row.json, type=wanted[row.ref])
            if isinstance(value, Tool):  # a snapshot names the definition by its hash only
                definition = self._definitions.get(value.schema_hash, b"")
                value = msgspec.structs.replace(value, definition_json=definition)
            self._known[row.ref] = value

    def _recorded(
        self, row: Row[Any], body: IntentBody, end: Row[Any] | None, ended: EndBody | None,
        sealed: dict[int, Sealed],
    ) -> Recorded:  # fmt: skip
        force = self._known.get(body.in_force_ref, _InForce())
        base = Recorded(
            seq=row.seq, call_id=row.call_id, at_ns=row.at_ns, agent=row.agent or "", target=row.target or "",
            said=Said(
                verdict=row.verdict, findings=body.findings, obligations=body.obligations,
                revision=force.policy_revision, rules=force.rules,
            ),
        )  # fmt: skip
        principal, tool = self._known.get(body.agent_ref), self._known.get(body.tool_ref)
        missing: Missing | None = None
        content = _Payload()
        if not force.engine:
            missing = "not_asked"
        elif principal is None or tool is None:
            missing = "no_snapshot"
        else:
            # What a call that may write was given lies beside its intent, its result beside its end.
            numbers = [each.payload for each in (row, end) if each is not None and each.payload in sealed]
            try:
                for number in numbers:
                    opened = _opened(self._key.open(payload_name(row.call_id, number), sealed[number]))
                    content = opened if content.arguments is _NOTHING else _joined(content, opened)
            except Unreadable:
                missing = "unreadable"
        if missing is None and not bytes(content.arguments):
            begun = row.phase == "intent" and end is None
            missing = "unfinished" if begun and row.risk == "read" else "no_payload"
        if missing is None and body.modified_from and not bytes(content.asked):
            missing = "no_original"
        if missing is not None or principal is None or tool is None:
            return msgspec.structs.replace(base, missing=missing)
        call = _call(row, body, principal, tool, content)
        outcome, said = self._outcome(row, end, ended, content)
        return msgspec.structs.replace(
            base,
            call=call,
            facts=self._facts(body),
            sent_json=bytes(content.arguments) if body.modified_from else b"",
            sensitive=content.sensitive,
            outcome=outcome,
            result_said=said,
        )

    def _facts(self, body: IntentBody) -> Facts:
        slow = self._known.get(body.slow_ref) if body.slow_ref else None
        return body.facts if slow is None else msgspec.structs.replace(body.facts, slow=slow)

    def _outcome(
        self, row: Row[Any], end: Row[Any] | None, ended: EndBody | None, content: _Payload
    ) -> tuple[Outcome | None, Said | None]:
        """The upstream's answer and what the result policy said of it, when it was asked."""
        status: Any = end.status if end is not None else row.status
        if ended is None or status is None or not (bytes(content.result) or bytes(content.error)):
            return None, None
        answered: Any = ended.answered or status
        outcome = Outcome(
            status=answered,
            result_json=bytes(content.result),
            error_json=bytes(content.error),
        )
        if ended.result is None:
            return outcome, None
        force = self._known.get(ended.result.in_force_ref, _InForce())
        said = Said(
            verdict=ended.result.verdict, findings=ended.result.findings,  # type: ignore[arg-type]  # as we wrote it
            obligations=ended.result.obligations, revision=force.policy_revision, rules=force.rules,
        )  # fmt: skip
        return outcome, said


def _speakers(said: IntentBody | ResultSaid) -> set[str]:
    rules = {finding.rule for finding in (*said.findings, *said.notes)}
    rules |= {observed.rule for observed in said.observed}
    rules |= {rule for duty in said.obligations for rule in duty.rule.split(",")}
    return rules


def _decided(narrow: Filter) -> list[Any]:
    return [*conditions(narrow), records.c.verdict.is_not(None)]


def _ends(connection: Connection, rows: Sequence[Row[Any]]) -> dict[str, Row[Any]]:
    """The last word about each call, when it stands in a row of its own."""
    open_calls = [row.call_id for row in rows if row.phase == "intent"]
    later = select(records).where(
        records.c.call_id.in_(open_calls),
        records.c.action.is_(None),
        records.c.phase.not_in(("erased", "verified")),
    )
    found = connection.execute(later.order_by(records.c.seq)).all() if open_calls else []
    return {row.call_id: row for row in found if row.body is not None and row.phase != "reconciled"}


def _joined(first: _Payload, second: _Payload) -> _Payload:
    return msgspec.structs.replace(first, result=second.result, error=second.error)


def _call(row: Row[Any], body: IntentBody, principal: Principal, tool: Tool, content: _Payload) -> Call:
    """The call as the agent asked it."""
    sent = bytes(content.arguments)
    args_json = bytes(content.asked) if body.modified_from else sent
    return Call(
        id=row.call_id, principal=principal, tool=tool, args=orjson.loads(args_json), args_json=args_json,
        digest=body.modified_from or row.digest, session=row.session, thread=body.thread,
        surface=body.surface, effect_key=row.effect_key or row.call_id, received_ns=body.received_ns,
        inputs_json=bytes(content.inputs), mode=body.mode,  # type: ignore[arg-type]  # as we wrote it
    )  # fmt: skip
