"""The calls decided last, as policy was asked about them, for trying another policy on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import orjson
from sqlalchemy import select

from gateway.journal.entries import payload_name
from gateway.journal.query import Query, Record
from gateway.model import Call, Facts, Principal, Tool
from gateway.storage.crypto import Sealed, StorageKey, Unreadable
from gateway.storage.database import Database
from gateway.storage.tables import payloads


class Recalled(NamedTuple):
    """One recorded call and what was said of it."""

    call: Call
    facts: Facts
    verdict: str
    findings: tuple[dict[str, Any], ...]


def recent(database: Database, key: StorageKey, limit: int) -> Iterator[Recalled | None]:
    """The newest decisions, newest first; ``None`` for one whose arguments are not kept any more."""
    cursor: int | None = None
    query = Query(database)
    while limit > 0:
        page = query.decided(limit=min(limit, 200), cursor=cursor)
        with database.reading() as connection:
            wanted = [record["payload"] for record in page.decisions if "payload" in record]
            rows = connection.execute(select(payloads).where(payloads.c.id.in_(wanted))).all()
        sealed = {row.id: Sealed(row.key_id, row.nonce, row.ciphertext) for row in rows}
        for record in page.decisions:
            yield _recalled(record, sealed, key)
        limit -= len(page.decisions)
        cursor = page.cursor
        if cursor is None:
            return


def _recalled(record: Record, sealed: dict[int, Sealed], key: StorageKey) -> Recalled | None:
    number = record.get("payload")
    found = sealed.get(number) if isinstance(number, int) else None
    if found is None or not record.get("agent_snapshot") or not record.get("tool_snapshot"):
        return None
    try:
        content = orjson.loads(key.open(payload_name(record["call_id"], record["payload"]), found))
        args = content["arguments"]
        call = Call(
            id=record["call_id"], principal=msgspec.convert(record["agent_snapshot"], Principal),
            tool=_tool(record["tool_snapshot"]), args=args, args_json=orjson.dumps(args),
            digest=record["digest"], session=record.get("session", ""), thread=record.get("thread", ""),
            surface=record["surface"], effect_key=str(record.get("effect_key", record["call_id"])),
            received_ns=record["received_ns"],
        )  # fmt: skip
        facts = msgspec.convert(record["facts"], Facts)
    except (Unreadable, orjson.JSONDecodeError, KeyError, msgspec.ValidationError):
        # Sealed with a key that is gone, or written by an older version: it cannot be asked again.
        return None
    return Recalled(call, facts, record["verdict"], tuple(record.get("findings", ())))


def _tool(snapshot: Any) -> Tool:
    return msgspec.convert({**snapshot, "definition_json": b""}, Tool)
