"""A state that knows nothing yet, for tests of what stands before or behind it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from gateway.sessions.rules import SessionRules
from gateway.state.memory import MemoryState
from gateway.state.sessions import Sessions
from gateway.storage.sessions import SessionStore
from tests.journal.support import KEY, empty_database
from tests.storage.at import at


class _Folder(tempfile.TemporaryDirectory):  # type: ignore[type-arg]  # of text
    """Gone with the state that was kept in it."""


def fresh_state(rules: SessionRules | None = None) -> MemoryState:
    folder = _Folder(prefix="wardgate-state-")
    path = Path(folder.name) / "w.db"
    path.write_bytes(empty_database())
    store = SessionStore(at(path).open(), KEY)
    state = MemoryState(Sessions(store, time.time_ns, rules or SessionRules()), time.time_ns)
    state.folder = folder  # type: ignore[attr-defined]  # kept as long as the state
    return state
