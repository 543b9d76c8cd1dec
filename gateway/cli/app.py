"""All commands on one screen."""

from __future__ import annotations

import typer

from gateway.cli.approvals import app as approvals_app
from gateway.cli.assertion import app as assertion_app
from gateway.cli.breaker import app as breaker_app
from gateway.cli.config import app as config_app
from gateway.cli.decisions import app as decisions_app
from gateway.cli.demo import demo
from gateway.cli.doctor import doctor
from gateway.cli.envelopes import app as envelopes_app
from gateway.cli.hook import hook
from gateway.cli.incident import app as incident_app
from gateway.cli.init import init
from gateway.cli.keys import app as keys_app
from gateway.cli.kill import kill
from gateway.cli.output import AsJson, print_json, say
from gateway.cli.policy import app as policy_app
from gateway.cli.records import app as records_app
from gateway.cli.serve import serve
from gateway.cli.sessions import app as sessions_app
from gateway.cli.stdio import stdio
from gateway.cli.storage import app as storage_app
from gateway.cli.tokens import app as tokens_app
from gateway.cli.tools import app as tools_app
from gateway.cli.trust import app as trust_app

app = typer.Typer(
    name="wardgate",
    help="The gateway through which AI agents use tools: every call decided by policy and recorded first.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help needs no import of rich, which takes longer than the rest together
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 something found, 2 not done, 3 not found, 4 unreachable, 130 interrupted.",
)


def version(as_json: AsJson = False) -> None:
    """Print the version."""
    from gateway import __version__

    if as_json:
        print_json({"version": __version__})
    else:
        say(f"wardgate {__version__}")


for command in (init, serve, stdio, hook, demo, doctor):
    app.command()(command)
app.add_typer(keys_app, name="keys")
app.add_typer(tokens_app, name="tokens")
app.add_typer(decisions_app, name="decisions")
app.add_typer(sessions_app, name="sessions")
app.add_typer(approvals_app, name="approvals")
app.add_typer(envelopes_app, name="envelopes")
app.add_typer(records_app, name="records")
app.add_typer(storage_app, name="storage")
app.add_typer(tools_app, name="tools")
app.add_typer(breaker_app, name="breaker")
app.add_typer(trust_app, name="trust")
app.command()(kill)
app.add_typer(incident_app, name="incident")
app.add_typer(policy_app, name="policy")
app.add_typer(assertion_app, name="assertion")
app.add_typer(config_app, name="config")
app.command()(version)
