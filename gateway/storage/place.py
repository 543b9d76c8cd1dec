"""Where the configuration says that things are kept."""

from __future__ import annotations

from gateway.config import StorageConfig, expand
from gateway.storage.database import Database


def place(storage: StorageConfig) -> Database:
    """The configured database, not yet opened. Raises ``ConfigError`` for an address that is wrong."""
    if storage.url is None:
        return Database(storage.path)
    # Imported here: whoever keeps to SQLite does not load a driver for it.
    from gateway.storage.postgresql import PostgresDatabase

    return PostgresDatabase(expand(storage.url, "storage.url"))
