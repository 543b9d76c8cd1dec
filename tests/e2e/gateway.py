"""``wardgate serve`` as operators run it, and agents that talk to it, for tests of the whole.

Nothing is replaced: the configuration is a file, keys come from ``wardgate keys``, the gateway is a process
that is stopped by signals, and what happened is read from its journal.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, get_args

import aiohttp
import yaml

from gateway.config_breakers import DetectorName
from gateway.identity import keys
from gateway.journal.query import Filter, Query
from gateway.storage.credentials import Credentials
from tests.storage.at import ON_POSTGRESQL, at, url

ROOT: Final = Path(__file__).resolve().parents[2]
WARDGATE: Final = (sys.executable, "-m", "gateway.cli")
MODERN: Final = "2026-07-28"

# A third of a start is compiling where nobody keeps byte code, and these tests start many gateways.
_BYTECODE: Final = tempfile.TemporaryDirectory(prefix="wardgate-e2e-")

Json = Any
Record = dict[str, Any]


# ----------------------------------------------------------------------------------------- policies


def rule(name: str, body: str, *, codes: Sequence[str] = (), **custom: Any) -> str:
    """The text of a small module; ``body`` is what follows its imports."""
    said = {"id": f"test.{name}", "owner": "test", "severity": "low", "codes": list(codes), **custom}
    meta = yaml.safe_dump({"title": name, "custom": said}, sort_keys=False)
    comment = "".join(f"# {line}\n" for line in ["METADATA", *meta.splitlines()])
    return f"{comment}package wardgate.rules.{name}\nimport rego.v1\n\n{body}\n"


ALLOW_ALL: Final = rule("all", 'allow contains {"code": "fine", "message": "fine"} if true', codes=["fine"])
DENY_ALL: Final = rule(
    "all", 'deny contains {"code": "closed", "message": "closed"} if true', codes=["closed"]
)

BREAKERS: Final[dict[str, Json]] = {"breakers": {"enforce_percent": {}}}
TOOLS: Final[dict[str, Json]] = {
    "look": {"risk": "read"},
    "note": {"risk": "reversible", "effects": ["write"]},
    "pay": {"risk": "irreversible", "effects": ["write", "money"]},
    "send": {"risk": "reversible", "effects": ["write", "egress"], "effect_key": "note:{text}"},
}
"""Manifests of the counting server's tools."""


# ------------------------------------------------------------------------------------------ gateway


class Wardgate:
    """One gateway: its folder, its process and its journal."""

    def __init__(self, folder: Path, upstreams: Mapping[str, Json], **sections: Json) -> None:
        """``upstreams`` maps names to sections of the configuration; more ``sections`` go in as they are.

        The policy folder starts with one module that allows everything.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.config_path = folder / "wardgate.yaml"
        self.policies = folder / "policies"
        self.policies.mkdir()
        self.policy("all.rego", ALLOW_ALL)
        key = folder / "storage.key"
        key.write_bytes(base64.b64encode(secrets.token_bytes(32)))
        key.chmod(0o600)
        self.config: dict[str, Json] = {
            "server": {"port": 0, "admin_port": 0},
            "storage": {**self._where(), "key_file": "storage.key"},
            "policy": {"path": "policies"},
            "upstreams": {name: {"tools": TOOLS, **section} for name, section in upstreams.items()},
            "agents": {"alice": {"owner": "team-a"}, "bob": {"owner": "team-b"}},
            # Most tests ask the same again and again until something changes, which is what a loop is: every
            # detector runs, and none acts. ``BREAKERS`` is the product's default.
            "breakers": {"enforce_percent": dict.fromkeys(get_args(DetectorName), 0)},
        }
        for name, section in sections.items():
            self.config[name] = (
                {**self.config.get(name, {}), **section} if isinstance(section, dict) else section
            )
        self.write_config()
        self.env: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.agents_url = self.admin_url = ""
        self._starts = 0
        self._keys: dict[str, str] = {}
        for agent in self.config["agents"]:
            self.key(agent)

    # -- files

    @property
    def database_path(self) -> Path:
        return self.folder / "wardgate.db"

    def write_config(self) -> None:
        """Replace the file as a deployment does: whole, under its name."""
        beside = self.config_path.with_suffix(".new")
        beside.write_text(yaml.safe_dump(self.config))
        beside.replace(self.config_path)

    def policy(self, file: str, text: str) -> None:
        beside = self.folder / f"{file}.new"
        beside.write_text(text)
        beside.replace(self.policies / file)

    # -- the command line

    async def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, in a thread so that open connections of the test live on."""
        return await asyncio.to_thread(self._cli, arguments)

    def _cli(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*WARDGATE, *arguments, "--config", str(self.config_path)],
            capture_output=True, text=True, timeout=60, env=self._environment(), cwd=ROOT,
        )  # fmt: skip

    async def cli_json(self, *arguments: str) -> Json:
        done = await self.cli(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def key(self, agent: str = "alice") -> str:
        """The key an agent had from the start; ``new_key`` makes more."""
        if agent not in self._keys:
            with at(self.database_path).open() as database:
                made = keys.mint(Credentials(database), kind="agent", tenant="default", name=agent)
            self._keys[agent] = made.token
        return self._keys[agent]

    async def new_key(self, agent: str = "alice", **options: str) -> dict[str, str]:
        """``{"id", "key", …}`` of a new key; options as in ``wardgate keys new``."""
        more = [part for name, value in options.items() for part in (f"--{name}", value)]
        made: dict[str, str] = await self.cli_json("keys", "new", "--agent", agent, *more)
        return made

    async def new_operator(self, role: str = "operator") -> str:
        made = await self.cli_json("keys", "new", "--operator", "olga", "--role", role)
        return str(made["key"])

    # -- the process

    def spawn(self) -> None:
        """Start the process without waiting for it."""
        self._starts += 1
        with self._stdout.open("wb") as out, self.log_path.open("ab") as err:
            self.process = subprocess.Popen(
                [*WARDGATE, "serve", "--json", "--config", str(self.config_path)],
                stdout=out, stderr=err, env=self._environment(), cwd=ROOT,
            )  # fmt: skip

    def start(self, timeout_s: float = 120) -> Wardgate:
        self.spawn()
        deadline = time.monotonic() + timeout_s
        while not (said := self._stdout.read_bytes()).endswith(b"\n"):
            assert self.process is not None and self.process.poll() is None, f"did not start:\n{self.log()}"
            assert time.monotonic() < deadline, f"not ready in {timeout_s} s:\n{self.log()}"
            time.sleep(0.01)
        addresses = json.loads(said)
        self.agents_url, self.admin_url = addresses["agents"], addresses["admin"]
        return self

    def refuses_to_start(self) -> tuple[int, str]:
        """Exit code and stderr of a ``serve`` that must end by itself."""
        self.spawn()
        assert self.process is not None
        code = self.process.wait(30)
        self.process = None
        return code, self.log()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def stop(self, timeout_s: float = 40) -> int:
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return self.ended(timeout_s)

    def ended(self, timeout_s: float = 40) -> int:
        assert self.process is not None
        code = self.process.wait(timeout_s)
        self.process = None
        return code

    def kill(self) -> None:
        """As the kernel would: no chance to write anything."""
        self.signal(signal.SIGKILL)
        self.ended()

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)

    def _where(self) -> dict[str, str]:
        """Where the gateway keeps its records: a file, or a database of the tests' server."""
        return {"url": url(self.database_path)} if ON_POSTGRESQL else {"path": "wardgate.db"}

    @property
    def log_path(self) -> Path:
        return self.folder / "stderr.log"

    @property
    def _stdout(self) -> Path:
        return self.folder / f"stdout.{self._starts}.log"

    def log(self) -> str:
        return self.log_path.read_text()

    def memory_mb(self) -> float:
        """Resident memory of the process."""
        assert self.process is not None
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise AssertionError("no VmRSS")

    def _environment(self) -> dict[str, str]:
        ours = ("WARDGATE_", "PYTHONDONTWRITEBYTECODE")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {**clean, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": _BYTECODE.name, **self.env}

    # -- what is on record

    def records(self) -> list[Record]:
        """Every record, oldest first."""
        with at(self.database_path).open(read_only=True) as database:
            found: list[Record] = []
            while more := Query(database).tail(found[-1]["seq"] if found else 0, limit=5000):
                found += more
        return found

    def exported(self) -> list[Record]:
        """Every record with its snapshots, as ``wardgate decisions export`` gives it."""
        with at(self.database_path).open(read_only=True) as database:
            return [json.loads(line) for line in Query(database).export()]

    def in_doubt(self) -> list[Record]:
        with at(self.database_path).open(read_only=True) as database:
            return Query(database).list_decisions(Filter(in_doubt=True), limit=10_000).decisions

    async def recorded(self, wanted: Callable[[Record], bool], timeout_s: float = 5) -> Record:
        """The first record that is wanted, waiting for the journal to be written behind."""
        found: list[Record] = []

        def there() -> bool:
            found[:] = [record for record in self.records() if wanted(record)]
            return bool(found)

        await eventually(there, timeout_s)
        return found[0]

    # -- operators

    async def readiness(self) -> tuple[int, Json]:
        async with aiohttp.ClientSession() as http, http.get(self.admin_url + "/readyz") as response:
            return response.status, await response.json()

    async def admin(self, path: str, key: str, method: str = "GET", body: Json = None) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.request(method, self.admin_url + path, json=body) as response,
        ):
            return response.status, await response.read()


async def eventually(true: Callable[[], object], timeout_s: float = 5) -> None:
    """Wait until ``true()`` is; fails when it does not become so."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        await asyncio.sleep(0.02)


# ------------------------------------------------------------------------------------------- agents


class Said:
    """What an agent got back for one request."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.message: dict[str, Json] = {}
        if body.startswith(b"{"):
            self.message = json.loads(body)
        elif body.startswith(b"event:"):
            events = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]
            self.message = json.loads(events[-1])

    @property
    def result(self) -> dict[str, Json]:
        assert "result" in self.message, self.message
        result: dict[str, Json] = self.message["result"]
        return result

    @property
    def refused(self) -> bool:
        return bool(self.message.get("result", {}).get("isError"))

    @property
    def facts(self) -> dict[str, Json]:
        """What a refusal says for machines."""
        found: dict[str, Json] = (
            self.result["_meta"]["dev.wardgate/decision"]
            if "result" in self.message
            else self.message["error"]["data"]
        )
        return found

    @property
    def reason(self) -> str | None:
        """The reason code of a refusal in either form; ``None`` for an answer of the upstream."""
        if "result" in self.message and not self.refused:
            return None
        reason = self.facts["reason"]
        return str(reason)

    @property
    def text(self) -> str:
        return str(self.result["content"][0]["text"])


class Agent:
    """A modern client with as little between a test and the wire as possible."""

    def __init__(self, http: aiohttp.ClientSession, url: Callable[[], str], key: str, upstream: str) -> None:
        self._http = http
        self._url = url
        self._number = 0
        self.key = key
        self.upstream = upstream
        self.capabilities: dict[str, Json] = {}

    async def call(self, tool: str, *, upstream: str | None = None, **arguments: Json) -> Said:
        return await self.ask(
            "tools/call", {"name": tool, "arguments": arguments}, name=tool, upstream=upstream
        )

    async def ask(
        self, method: str, params: dict[str, Json], *, name: str = "", upstream: str | None = None
    ) -> Said:
        headers = {"MCP-Method": method, "MCP-Protocol-Version": MODERN}
        if name:
            headers["MCP-Name"] = name
        return await self.post(self.body(method, params), headers, upstream=upstream)

    def body(self, method: str, params: dict[str, Json]) -> bytes:
        self._number += 1
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": self.capabilities,
        }
        message = {
            "jsonrpc": "2.0", "id": self._number, "method": method, "params": {**params, "_meta": meta},
        }  # fmt: skip
        return json.dumps(message).encode()

    async def post(
        self, body: bytes, headers: Mapping[str, str] | None = None, *, upstream: str | None = None
    ) -> Said:
        """Send bytes as they are."""
        upstream = self.upstream if upstream is None else upstream
        path = f"/mcp/{upstream}" if upstream else "/mcp"
        sent = {
            **({"Authorization": f"Bearer {self.key}"} if self.key else {}),
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            **(headers or {}),
        }
        async with self._http.post(self._url() + path, data=body, headers=sent) as response:
            return Said(response.status, response.headers, await response.read())


@asynccontextmanager
async def talking(
    gateway: Wardgate, key: str, upstream: str = "counting", timeout_s: float = 30
) -> AsyncIterator[Agent]:
    """An agent with connections of its own; it follows the gateway over restarts."""
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http:
        yield Agent(http, lambda: gateway.agents_url, key, upstream)


# ----------------------------------------------------------------------------------------- upstream


class Counting:
    """The counting server of ``upstream.py``, seen from outside."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.lists = log.with_suffix(".lists.json")
        self.url = ""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, port: int = 0, witness: Path | None = None) -> None:
        env = {**os.environ, "PORT": str(port), "PYTHONPATH": str(ROOT), "LISTS": str(self.lists)}
        if witness is not None:
            env["WITNESS"] = str(witness)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.upstream", str(self.log)],
            stdout=subprocess.PIPE, env=env, cwd=ROOT,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.url = json.loads(self.process.stdout.readline())["url"]

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate(timeout=10)
            self.process = None

    def offers(self, *tools: dict[str, Json], **lists: list[dict[str, Json]]) -> None:
        """From now on it lists these tools, and ``prompts``, ``resources`` or ``templates`` as given."""
        said: dict[str, Json] = {"tools/list": {"tools": list(tools)}}
        for kind, entries in lists.items():
            if kind == "templates":
                said["resources/templates/list"] = {"resourceTemplates": entries}
            else:
                said[f"{kind}/list"] = {kind: entries}
        beside = self.lists.with_suffix(".new")
        beside.write_text(json.dumps(said))
        beside.replace(self.lists)

    def events(self, kind: str) -> list[dict[str, Json]]:
        if not self.log.exists():
            return []
        events = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [event for event in events if event["event"] == kind]

    def contacts(self) -> list[dict[str, Json]]:
        """Requests that came for an agent; the gateway's own discovery and lists are left out."""
        own = ("server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list")
        return [event for event in self.events("contact") if event["method"] not in own]

    def effects(self, text: str | None = None) -> list[dict[str, Json]]:
        """Tool calls that were carried out, in order; with ``text`` only those with that argument."""
        found = self.events("effect")
        return found if text is None else [each for each in found if each["arguments"].get("text") == text]


@contextmanager
def counting(folder: Path, name: str = "counting", *, witness: Path | None = None) -> Iterator[Counting]:
    server = Counting(folder / f"{name}.jsonl")
    server.start(witness=witness)
    try:
        yield server
    finally:
        server.stop()
