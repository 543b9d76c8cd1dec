"""Calls in doubt for whoever can find out what became of them, and the word that ends a doubt. Blocking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import orjson

from gateway.journal import resolution
from gateway.journal.query import Filter, Query
from gateway.journal.recorded import Inputs
from gateway.model import Call
from gateway.storage.crypto import StorageKey
from gateway.storage.database import Database

MOST: Final = 200
"""Calls of one tool that are looked at in one round; the newest."""


class Doubts:
    """``system`` signs what it says, as a person's name does theirs."""

    def __init__(self, database: Database, key: StorageKey, system: str) -> None:
        self._database = database
        self._query = Query(database)
        self._inputs = Inputs(database, key)
        self._system = system

    def of(self, target: str) -> Sequence[tuple[str, int]]:
        """Ids of the calls of a tool that are in doubt, and since when (nanoseconds since the epoch)."""
        page = self._query.list_decisions(Filter(in_doubt=True, tool=target), limit=MOST)
        return [(each["call_id"], each["end"]["at_ns"]) for each in page.decisions if "end" in each]

    def recall(self, call_id: str) -> Call | None:
        """The call with its arguments as they were sent; ``None`` when they are not kept."""
        found = self._inputs.one(call_id)
        if found is None or found.call is None:
            return None
        if not found.sent_json:
            return found.call
        return msgspec.structs.replace(
            found.call, args=orjson.loads(found.sent_json), args_json=found.sent_json
        )

    def say(self, call_id: str, executed: bool, note: str) -> bool:
        """Write what became of it; ``False`` when somebody has said it before."""
        became: resolution.Became = "executed" if executed else "not_executed"
        try:
            resolution.resolve(self._database, call_id, became, by=self._system, note=note)
        except resolution.NotInDoubt:
            return False
        return True
