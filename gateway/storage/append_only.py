"""Tables nobody may change: held by the database itself, for everybody who goes through SQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_FUNCTION: Final = """CREATE OR REPLACE FUNCTION wardgate_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' are append-only'; END $$"""


def protect(execute: Callable[[str], object], dialect: str, tables: tuple[str, ...]) -> None:
    """Refuse changes and deletions; for migrations."""
    if dialect == "postgresql":
        execute(_FUNCTION)
    for table in tables:
        if dialect == "postgresql":
            execute(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
                " FOR EACH STATEMENT EXECUTE FUNCTION wardgate_append_only()"
            )
            continue
        for verb in ("UPDATE", "DELETE"):
            execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table}"
                f" BEGIN SELECT RAISE(ABORT, '{table} are append-only'); END"
            )
