"""``wardgate serve``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.cli.output import DEFAULT_CONFIG, AsJson, ConfigPath

if TYPE_CHECKING:
    from gateway.server import Addresses


def serve(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Run the gateway until SIGTERM. SIGHUP reloads the configuration.

    Secrets come from the environment and from wardgate.env beside the configuration.
    """
    from gateway.cli import envfile

    envfile.apply(config)

    from gateway.server import serve as run

    def ready(addresses: Addresses) -> None:
        from gateway.cli.output import note, print_json

        if as_json:
            print_json({"agents": addresses.agents, "admin": addresses.admin})
        else:
            note(f"wardgate is ready: agents at {addresses.agents}/mcp, operators at {addresses.admin}")

    run(config, ready=ready)
