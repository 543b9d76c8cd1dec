"""``wardgate policy``: what rules are in force, and everything their authors do with them."""

from __future__ import annotations

import typer

from gateway.cli import policy_rollout
from gateway.cli.policy_bench import bench
from gateway.cli.policy_bundle import build, sign, verify
from gateway.cli.policy_check import check, fmt, test
from gateway.cli.policy_explain import evaluate, explain
from gateway.cli.policy_init import create
from gateway.cli.policy_inspect import inspect
from gateway.cli.policy_replay import diff, replay
from gateway.cli.policy_source import folder_of

__all__ = ["app", "folder_of"]

app = typer.Typer(help="Write, test, explain, replay, ship and roll out policy.", no_args_is_help=True)

for command in (check, test, fmt, explain, replay, diff, bench, inspect, build, sign, verify):
    app.command()(command)
app.command("init")(create)
app.command("eval")(evaluate)
app.add_typer(policy_rollout.app, name="rollout")
