"""wardgate as operators run it: a configuration file, a minted key, ``wardgate serve``."""

from __future__ import annotations

import base64
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import yaml

from gateway.config import load
from gateway.identity import keys
from gateway.storage.credentials import Credentials
from gateway.storage.database import Database
from tests.bench import servers
from tests.bench.servers import Server

AGENT = "bench"
UPSTREAM = "bench"
LABEL = "benchmark"  # by which the strict pack gives the agent its tools
_WARDGATE = [str(Path(sys.executable).with_name("wardgate"))]

# In the scope of no tool of the benchmark: what is measured is whether it costs anything to have it loaded.
_ELSEWHERE = """# METADATA
# title: Rule {n} of a team whose tools are not called here
# custom:
#   id: elsewhere.r{n}
#   owner: elsewhere
#   severity: low
#   codes: [amount_over_limit]
#   scope: {{tools: ["elsewhere-{n}/*"]}}
package wardgate.rules.elsewhere_r{n}
import rego.v1

deny contains {{"code": "amount_over_limit", "message": "too much"}} if {{
    input.call.args.amount_micro_usd > {n}
}}
"""


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What varies between the gateways of one benchmark."""

    name: str
    pack: str = "starter"
    modules: int = 0  # loaded and out of scope, besides the pack


def prepare(setup: Setup, upstream: Server, work: Path) -> Path:
    """Write the configuration; returns its path. The folder is the gateway's own."""
    folder = work / setup.name
    policies = folder / "policies"
    policies.mkdir(parents=True)
    (policies / "data.yaml").write_text(yaml.safe_dump({"tools": {"allowed": {LABEL: [f"{UPSTREAM}/*"]}}}))
    for n in range(setup.modules):
        (policies / f"elsewhere_{n}.rego").write_text(_ELSEWHERE.format(n=n))
    key_file = folder / "storage.key"
    key_file.write_bytes(base64.b64encode(secrets.token_bytes(32)))
    key_file.chmod(0o600)
    config = {
        "server": {"port": servers.free_port(), "admin_port": servers.free_port()},
        "storage": {"path": "wardgate.db", "key_file": "storage.key"},
        "policy": {"path": "policies", "pack": setup.pack, "reload": False},
        "telemetry": {"sample": 0.01, "otlp_endpoint": f"http://127.0.0.1:{upstream.port}/v1/traces"},
        "upstreams": {
            UPSTREAM: {
                "url": f"http://127.0.0.1:{upstream.port}/mcp",
                "tools": {
                    "lookup_*": {"risk": "read", "effects": ["read"]},
                    "update_*": {"risk": "reversible", "effects": ["write"]},
                },
            }
        },
        "agents": {AGENT: {"owner": "performance", "labels": [LABEL]}},
    }
    path = folder / "wardgate.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def mint(config: Path) -> str:
    """A key for the benchmark's agent, as ``wardgate keys new`` makes it."""
    with Database(load(config).storage.path).open() as database:
        minted = keys.mint(Credentials(database), kind="agent", tenant="default", name=AGENT)
    return minted.token


@contextmanager
def serving(setup: Setup, upstream: Server, work: Path, *, profile: Path | None = None) -> Iterator[Server]:
    """``wardgate serve``; with ``profile`` it runs under cProfile and leaves its figures there."""
    config = prepare(setup, upstream, work)
    key = mint(config)
    serve = ["serve", "--config", str(config)]
    command = [*_WARDGATE, *serve]
    if profile is not None:
        command = [sys.executable, "-m", "tests.bench.profiling", str(profile), *serve]
    port: int = yaml.safe_load(config.read_text())["server"]["port"]
    env = {"PYTHONPATH": os.pathsep.join([str(servers.ROOT), os.environ.get("PYTHONPATH", "")])}
    with servers.running(
        setup.name, command, port, work, env=env, key=key, path=f"/mcp/{UPSTREAM}"
    ) as server:
        yield server
