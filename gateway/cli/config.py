"""``wardgate config``: the schema and the check of ``wardgate.yaml``."""

from __future__ import annotations

import typer

from gateway.cli.output import DEFAULT_CONFIG, AsJson, ConfigPath, print_json, say

app = typer.Typer(help="Check the configuration, or print its JSON Schema.", no_args_is_help=True)


@app.command()
def schema() -> None:
    """Print the JSON Schema of wardgate.yaml, for editors and pipelines."""
    from gateway.config import Config

    print_json(Config.model_json_schema())


@app.command()
def check(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Read the configuration as 'serve' would, and say what is wrong with it."""
    from gateway.cli import envfile
    from gateway.config import load

    envfile.apply(config)
    loaded = load(config)
    summary = {
        "config": str(config),
        "mode": loaded.mode,
        "upstreams": sorted(loaded.upstreams),
        "agents": sorted(loaded.agents),
    }
    if as_json:
        print_json(summary)
        return
    say(f"{config} is valid: mode {loaded.mode}, {_count(loaded.upstreams, 'upstream')},"
        f" {_count(loaded.agents, 'agent')}.")  # fmt: skip


def _count(things: object, word: str) -> str:
    number = len(things) if isinstance(things, dict) else 0
    return f"{number} {word}{'' if number == 1 else 's'}"
