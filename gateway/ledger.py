"""The journal as the HTTP front asks for it: an agent's own calls, and what became of each.

Everything here blocks and is called in a worker thread; a journal that cannot be read is a ``JournalError``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy.exc import DatabaseError

from gateway.errors import JournalError
from gateway.journal import resolution
from gateway.journal.query import Filter, Query
from gateway.model import Principal
from gateway.storage.database import Database
from gateway.surfaces.http.deps import Past

_LAPSED: Final = "decision_lapsed"
_ENDS: Final = ("result", "not_sent", "in_doubt", "reconciled")


class RecordedCalls:
    """Implements ``surfaces.http.deps.Ledger``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._query = Query(database)

    def find(self, call_id: str) -> Past | None:
        with readable():
            shown = self._query.show(call_id)
        if shown is None:
            return None
        first = shown.records[0]
        agent, tool = first.get("agent_snapshot") or {}, first.get("tool_snapshot") or {}
        if not agent or not tool:
            return None  # a request that never became a call
        steps = [step | (step.get("end") or {}) for step in shown.records]
        ends = [step for step in steps if step["phase"] in _ENDS]
        last = ends[-1] if ends else {}
        became = {name: last[name] for name in ("status", "outcome_code") if name in last}
        if checked := [step["status"] for step in steps if step["phase"] == "verified"]:
            became["verification"] = checked[-1]
        return Past(
            tenant=first["tenant"],
            agent=first["agent"],
            subject=first.get("subject"),
            decided=bool(tool.get("elsewhere")) or any(e.get("outcome_code") == _LAPSED for e in ends),
            writes=first["risk"] != "read",
            refused=first["phase"] == "refused",
            end=last.get("phase", ""),
            status=last.get("status", ""),
            item={**first, **became, "end_phase": (last or first)["phase"]},
        )

    def list(
        self, principal: Principal, limit: int, cursor: str | None
    ) -> tuple[Sequence[Mapping[str, Any]], str | None]:
        after = int(cursor) if cursor is not None else None
        if after is not None and not 0 < after < 1 << 63:
            raise ValueError("no cursor of ours")
        narrow = Filter(tenant=principal.tenant, agent=principal.agent, subject=principal.subject or "")
        with readable():
            page = self._query.list_decisions(narrow, limit=limit, cursor=after)
        return page.decisions, str(page.cursor) if page.cursor else None

    def confirm(self, call_id: str, by: str) -> bool:
        try:
            with readable():
                resolution.resolve(
                    self._database, call_id, "executed", by=by, note="reported after the deadline"
                )
        except resolution.NotInDoubt:
            return False
        return True


@contextmanager
def readable() -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        raise JournalError("journal_unavailable", str(error.orig)) from error
