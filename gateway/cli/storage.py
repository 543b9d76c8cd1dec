"""``wardgate storage``: bring a database to this version's schema, and move from SQLite to PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.output import DEFAULT_CONFIG, AsJson, ConfigPath, fail, print_json, say

app = typer.Typer(help="Make, upgrade and move the database.", no_args_is_help=True)


@app.command()
def migrate(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Bring the configured database to the schema of this version; 'serve' does the same at its start.

    Refused while a gateway runs on a database that has to change.
    """
    from gateway.cli.opened import configuration, database
    from gateway.storage.tables import SCHEMA

    with database(configuration(config)) as opened:
        name = opened.name
    if as_json:
        print_json({"database": name, "schema": SCHEMA})
    else:
        say(f"{name} has schema {SCHEMA}.")


@app.command()
def copy(
    source: Annotated[Path, typer.Option("--from", help="The SQLite file to copy; no gateway may hold it.")],
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Copy a SQLite file into the configured PostgreSQL database, which must be empty, and compare.

    All of it or nothing: when a row differs afterwards, nothing was copied. The file stays as it is.
    """
    from rich.console import Console
    from rich.progress import Progress

    from gateway.cli.opened import configuration
    from gateway.errors import ConfigError
    from gateway.storage import copying
    from gateway.storage.database import Database
    from gateway.storage.place import place

    loaded = configuration(config)
    if loaded.storage.url is None:
        fail(f"{config} has no storage.url to copy to.", "Set it to the address of a new database.")
    if not source.exists():
        fail(f"There is no file {source}.")
    try:
        # As a gateway, both: nobody else may write to either of them meanwhile.
        with Database(source).open(gateway=True) as old, place(loaded.storage).open() as new:
            total = copying.sizes(old)
            with Progress(console=Console(stderr=True), transient=True) as progress:
                bar = progress.add_task("copying", total=sum(total.values()))

                def told(table: str, rows: int) -> None:
                    progress.update(bar, advance=rows, description=f"copying {table}")

                done = copying.copy(old, new, told)
    except ConfigError as error:
        fail(str(error))
    if as_json:
        print_json({"rows": done.rows})
        return
    for table, rows in done.rows.items():
        if rows:
            say(f"  {table:20} {rows:>10,}")
    say(f"Copied and compared {sum(done.rows.values()):,} rows. Keep {source} until you have looked around.")
