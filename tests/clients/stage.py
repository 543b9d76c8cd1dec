"""The real gateway in front of a real tool server, and one client's way through them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from gateway.journal.query import Filter, Query
from gateway.storage.breakers import BreakerStore
from gateway.storage.database import Database
from tests.clients import story
from tests.clients.clients import HERE, Client
from tests.clients.reviewer import CHAINS, Reviewer
from tests.clients.tap import tapped
from tests.e2e.gateway import BREAKERS, ROOT, Wardgate

TIMEOUT_S: Final = 120.0
HOLD_S: Final = 0.3
"""How long a held call waits for the reviewer before it is answered as pending; as it comes, 3.5 s."""


class Stage:
    """What all clients of one run share. Each is an agent of its own, with a key of its own."""

    def __init__(self, gateway: Wardgate, reviewer: Reviewer, effects: Path, work: Path) -> None:
        self._gateway = gateway
        self._effects = effects
        self._work = work
        self._reviewer = reviewer

    async def play(self, client: Client, driver: Sequence[str]) -> dict[str, str | None]:
        """Run the driver to its end; what is wrong, by promise. ``driver`` is its command, with ``{url}``."""
        async with tapped(f"{self._gateway.agents_url}/mcp/crm") as tap:
            words = [word.replace("{url}", tap.url) for word in driver]
            async with self._reviewer.deciding(client.name, lambda: tap.answered):
                code, out, err = await self._run(client, words)
            wire, calls = tap.answered, tap.calls
        if code != 0:
            last = "\n".join((err or out).strip().splitlines()[-15:])
            return {"run": f"the driver ended with {code}:\n{last}"}
        try:
            report = json.loads(out.splitlines()[-1])
        except (IndexError, ValueError):
            return {"run": f"the driver ended without a report: {out[-500:]}"}
        seen = story.Seen(
            report=report,
            output=out + err,
            calls=calls,
            wire=wire,
            effects=self._happened(client),
            decided=await self._decided(client),
            approvals=await self._reviewer.queue(client.name),
            trips=self._trips(client),
        )
        return {"run": None, **story.judge(client, seen)}

    async def _run(self, client: Client, words: Sequence[str]) -> tuple[int | str, str, str]:
        home = self._work / client.name  # clients write caches and settings; not into anybody's home
        home.mkdir()
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        env = {**kept, "HOME": str(home), "WARDGATE_KEY": self._gateway.key(client.name), **_QUIET}
        steps = [
            {"name": step.name, "calls": [{"tool": tool, "arguments": args} for tool, args in step.calls]}
            for step in story.steps(client.name)
        ]
        process = await asyncio.create_subprocess_exec(
            *words, cwd=home, env=env, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            talk = process.communicate(json.dumps(steps).encode())
            out, err = await asyncio.wait_for(talk, TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            return f"nothing after {TIMEOUT_S:.0f} s", "", ""
        return process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")

    def _happened(self, client: Client) -> list[dict[str, Any]]:
        """The client's effects, by the server's own account."""
        lines = self._effects.read_text().splitlines() if self._effects.exists() else []
        events = [json.loads(line) for line in lines]
        return [
            event for event in events
            if str(event.get("invoice") or event.get("customer")).endswith(f" of {client.name}")
        ]  # fmt: skip

    def _trips(self, client: Client) -> list[str]:
        with Database(self._gateway.database_path).open(read_only=True) as database:
            return [told.trip.detector for told in BreakerStore(database).trips(agent=client.name)]

    async def _decided(self, client: Client) -> list[tuple[str, str, str]]:
        """The client's calls: target, verdict, reason code; reads are written behind, so in no order."""
        await asyncio.sleep(0.5)
        with Database(self._gateway.database_path).open(read_only=True) as database:
            found = Query(database).list_decisions(Filter(agent=client.name), limit=100).decisions
        return [(each.get("target", ""), each.get("verdict", ""), each.get("code", "")) for each in found]


_QUIET: Final = {
    # Nothing but the gateway is talked to: frameworks that report home are told not to.
    "OTEL_SDK_DISABLED": "true",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "LANGSMITH_TRACING": "false",
    "DO_NOT_TRACK": "1",
    "NO_COLOR": "1",
    "PYTHONDONTWRITEBYTECODE": "",
}


@contextmanager
def staged(clients: Iterable[Client], **sections: Any) -> Iterator[Stage]:
    """A gateway and a tool server of their own, for these clients; ``sections`` go into its configuration."""
    with tempfile.TemporaryDirectory(prefix="wardgate-clients-") as folder:
        work = Path(folder)
        effects = work / "effects.jsonl"
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.clients.upstream", str(effects)],
            stdout=subprocess.PIPE, env=env, cwd=ROOT,
        )  # fmt: skip
        try:
            assert server.stdout is not None
            url = json.loads(server.stdout.readline())["url"]
            gateway = Wardgate(
                work / "gateway",
                {"crm": {"url": url, "tools": story.MANIFESTS}},
                agents={client.name: {"owner": "team-clients"} for client in clients},
                # The second call of an agent that has one under way is turned away.
                limits={"in_flight_per_agent": 1},
                approvals={"chains": CHAINS, "hold_s": HOLD_S},
                **BREAKERS,
                **sections,
            )
            (gateway.policies / "all.rego").unlink()
            shutil.copytree(HERE / "policies", gateway.policies, dirs_exist_ok=True)
            reviewer = Reviewer(gateway)
            gateway.start()
            try:
                yield Stage(gateway, reviewer, effects, work)
            finally:
                gateway.kill()
        finally:
            server.kill()
            server.communicate(timeout=10)
