"""Ten thousand calls that wait, put into the store of a gateway in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import insert, select

from gateway.digest import new_id
from gateway.storage import control
from gateway.storage.crypto import load_key
from gateway.storage.database import Database
from gateway.storage.tables import approvals


def fill(database_path: Path, key_file: Path, like: str, count: int) -> None:
    """Copies of one approval with ids, digests, agents and sealed arguments of their own."""
    key = load_key(key_file, {})
    with Database(database_path).open() as database:
        with database.reading() as connection:
            row = dict(connection.execute(select(approvals).where(approvals.c.id == like)).one()._mapping)
        made: list[dict[str, Any]] = []
        for number in range(count):
            approval_id = new_id()
            args = {
                "to": f"customer{number}@shop.example",
                "subject": f"Order {number}",
                "body": "Dear you, " * 40,
            }
            sealed = key.sealer(row["opened_ns"]).seal(f"approval/{approval_id}", orjson.dumps(args))
            made.append({
                **row, "id": approval_id, "asked_digest": f"f{number:063x}", "digest": f"f{number:063x}",
                "agent": f"agent-{number % 40}", "session": f"s-{number % 400:032x}",
                "key_id": sealed[0], "nonce": sealed[1], "ciphertext": sealed[2],
            })  # fmt: skip
        for start in range(0, count, 500):
            with database.writing() as connection:
                connection.execute(insert(approvals), made[start : start + 500])
                control.bump(connection, control.APPROVALS)
