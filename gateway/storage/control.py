"""Counters by which a running gateway notices what the command line changed.

A command that changes credentials or resolves a call raises the counter of that name in the same
transaction; the gateway polls them with one small query and reloads what moved. So a revocation is in
force as soon as the next poll, without a channel between the two processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from gateway.storage.tables import control

if TYPE_CHECKING:
    from gateway.storage.database import Database

CREDENTIALS: Final = "credentials"
TOKENS: Final = "tokens"
RESOLUTIONS: Final = "resolutions"
PINS: Final = "pins"
ROLLOUT: Final = "rollout"
SESSIONS: Final = "sessions"
KILLS: Final = "kills"
BREAKERS: Final = "breakers"
MARKED: Final = "marked"
"""The newest mark when sessions were last saved as a whole."""

STEADY: Final = "steady"
"""The steady time at that moment, which the next start does not fall behind."""

ACTED: Final = "acted"
"""Every act up to this number is in what sessions were saved as."""

FOLDED: Final = "folded"
"""Everything up to this sequence number is in what sessions and accounts were saved as."""

APPROVALS: Final = "approvals"
CONTROL: Final = "control"
"""Raised by whatever takes an authority back: kill, trip, demotion. See ``authority``."""
HOLDER: Final = "holder"
"""Raised by each gateway that opens a PostgreSQL database; it shuts out those before it."""

RECOVERED: Final = "recovered"
"""Every intent up to this sequence number has its end; recovery looks only behind it."""


def epochs(connection: Connection) -> dict[str, int]:
    """All counters; one that was never raised is absent."""
    return {row.name: row.epoch for row in connection.execute(_ALL)}


def read(database: Database, *names: str) -> dict[str, int]:
    """Some counters; 0 for one that was never raised. Blocks."""
    with database.reading() as connection:
        known = epochs(connection)
    return {name: known.get(name, 0) for name in names}


def authority(connection: Connection) -> int:
    """The control epoch: it moves when anything a decision relied on may have been taken back."""
    known = epochs(connection)
    return sum(known.get(name, 0) for name in _AUTHORITY)


def bump(connection: Connection, name: str) -> None:
    """Raise a counter by one, in the caller's transaction."""
    row = insert(control).values(name=name, epoch=1)
    connection.execute(
        row.on_conflict_do_update(index_elements=[control.c.name], set_={"epoch": control.c.epoch + 1})
    )


def advance(connection: Connection, name: str, epoch: int) -> None:
    """Set a counter that follows something else; it never goes back."""
    row = insert(control).values(name=name, epoch=epoch)
    connection.execute(
        row.on_conflict_do_update(
            index_elements=[control.c.name], set_={"epoch": epoch}, where=control.c.epoch < epoch
        )
    )


_AUTHORITY: Final = (CONTROL, CREDENTIALS, KILLS, TOKENS, PINS, ROLLOUT)

_ALL: Final = select(control.c.name, control.c.epoch)
