"""A queue of ten thousand, measured at the API of a real gateway, in front of a real tool server.

    make load-approvals                   # writes build/approvals-load.json
    python -m tests.approvals.load --pending 2000 --samples 20

What is asked for: a page of the queue p95 ≤ 150 ms; from a person's click to the answer of the call that
waited p95 ≤ 300 ms; a watcher hears of a new approval and of a decision within 1 s. Everything is timed by
the client, HTTP included, with one client at a time beside the agent that waits.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from gateway.approvals import canaries, rows
from gateway.approvals.store import Store
from gateway.identity import keys
from gateway.storage.credentials import Credentials
from gateway.storage.crypto import load_key
from gateway.storage.database import Database
from tests.approvals.support import one_stage
from tests.e2e.gateway import Wardgate, counting, rule, talking

TARGETS_MS: Final = {"list": 150.0, "approve_to_execute": 300.0, "live": 1000.0}
HELD: Final = rule(
    "held",
    'escalate contains {"code": "needs_person", "message": "this needs a person"}',
    codes=["needs_person"],
)
CHAINS: Final = {
    "default": {
        "stages": [{"any": [{"who": {"roles": ["approver", "operator"]}}]}],
        "decide_s": 86_400,
    }
}
_LOT: Final = 1000


def fill(gateway: Wardgate, source: str, number: int) -> None:
    """Copies of one real approval, with arguments and digests of their own."""
    with Database(gateway.database_path).open() as database:
        from gateway.approvals.values import Settings

        settings = Settings(chains={"default": one_stage()})
        store = Store(database, load_key(gateway.folder / "storage.key"), settings)
        with database.reading() as connection:
            found = rows.load(connection, source)
        assert found is not None
        for start in range(0, number, _LOT):
            with database.writing() as connection:
                now = store.now(connection)
                for each in range(start, min(start + _LOT, number)):
                    args = orjson.dumps({"text": f"number {each}", "more": "x" * 400})
                    store._insert(connection, canaries.opening(found, "nobody", args, settings), now)


class Person:
    """A reviewer with one connection."""

    def __init__(self, gateway: Wardgate, http: aiohttp.ClientSession) -> None:
        self._url = gateway.admin_url
        self._http = http

    async def get(self, path: str, **query: Any) -> Any:
        async with self._http.get(self._url + path, params=query) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def approve(self, approval: Any) -> Any:
        headers = {"If-Match": f'"{approval["version"]}"'}
        url = f"{self._url}/v1/approvals/{approval['id']}/approve"
        async with self._http.post(url, json={"digest": approval["digest"]}, headers=headers) as response:
            assert response.status == 200, await response.text()
            return await response.json()


def spread(times_s: list[float]) -> dict[str, float]:
    ordered = sorted(each * 1000 for each in times_s)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)

    return {"p50": round(statistics.median(ordered), 1), "p95": at(0.95), "max": round(ordered[-1], 1)}


async def pages(ann: Person, samples: int) -> list[float]:
    """Pages of the queue: the first, and those behind it, as somebody turns them."""
    times: list[float] = []
    cursor: str | None = None
    for _ in range(samples):
        started = time.perf_counter()
        found = await ann.get("/v1/approvals", limit=50, **({"cursor": cursor} if cursor else {}))
        times.append(time.perf_counter() - started)
        cursor = found["cursor"]
    return times


async def waiting_for(ann: Person, cursor: int, wanted: Callable[[Any], bool]) -> tuple[Any, float, int]:
    """The approval of the first change that is wanted, and when it was heard of."""
    while True:
        found = await ann.get("/v1/approvals/changes", after=cursor, wait=10)
        cursor = found["cursor"]
        for each in found["items"]:
            if wanted(each):
                return each["approval"], time.perf_counter(), cursor


async def decisions(ann: Person, alice: Any, samples: int) -> tuple[list[float], list[float]]:
    """From click to the answer of the call that waited, and from call or click to whoever watches."""
    executed: list[float] = []
    live: list[float] = []
    cursor = (await ann.get("/v1/approvals/changes"))["cursor"]
    for number in range(samples):
        watch = asyncio.create_task(waiting_for(ann, cursor, lambda each: each["event"] == "opened"))
        await asyncio.sleep(0.05)
        started = time.perf_counter()
        call = asyncio.create_task(alice.call("pay", text=f"sample {number}"))
        approval, heard, cursor = await watch
        live.append(heard - started)
        watch = asyncio.create_task(waiting_for(ann, cursor, lambda each: each["event"] == "voted"))
        await asyncio.sleep(0.05)
        started = time.perf_counter()
        await ann.approve(approval)
        said = await call
        executed.append(time.perf_counter() - started)
        assert not said.refused, said.text
        _, heard, cursor = await watch
        live.append(heard - started)
    return executed, live


async def measure(pending: int, samples: int) -> dict[str, Any]:
    approvals = {
        "chains": CHAINS, "hold_s": 30, "max_pending": 2 * pending + 1000,
        "max_pending_per_agent": 2 * pending + 1000, "fatigue": {"per_hour": 10_000},
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="wardgate-load-") as folder, counting(Path(folder)) as server:
        gateway = Wardgate(Path(folder) / "gateway", {"counting": {"url": server.url}}, approvals=approvals)
        gateway.policy("held.rego", HELD)
        with Database(gateway.database_path).open() as database:
            key = keys.mint(
                Credentials(database), kind="operator", tenant="default", name="ann", role="approver"
            ).token
        gateway.start(timeout_s=120)
        try:
            headers = {"Authorization": f"Bearer {key}"}
            async with (
                aiohttp.ClientSession(headers=headers) as http,
                talking(gateway, gateway.key()) as alice,
            ):
                ann = Person(gateway, http)
                call = asyncio.create_task(alice.call("pay", text="first"))
                while not (found := (await ann.get("/v1/approvals"))["items"]):
                    await asyncio.sleep(0.05)
                await ann.approve(found[0])
                await call
                started = time.perf_counter()
                await asyncio.to_thread(fill, gateway, found[0]["id"], pending)
                filled = time.perf_counter() - started
                listed = await pages(ann, samples)
                detail: list[float] = []
                for each in (await ann.get("/v1/approvals", limit=50))["items"][:samples]:
                    started = time.perf_counter()
                    await ann.get(f"/v1/approvals/{each['id']}")
                    detail.append(time.perf_counter() - started)
                executed, live = await decisions(ann, alice, samples)
                started = time.perf_counter()
                await ann.get("/v1/reviewers")
                reviewers = time.perf_counter() - started
                left = len((await ann.get("/v1/approvals", limit=500))["items"])
                assert left == min(pending, 500)
        finally:
            gateway.close()
    return {
        "pending": pending, "samples": samples, "fill_s": round(filled, 1),
        "list_ms": spread(listed), "detail_ms": spread(detail),
        "approve_to_execute_ms": spread(executed), "live_ms": spread(live),
        "reviewers_ms": round(reviewers * 1000, 1),
        "load_average": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pending", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=100)
    asked = parser.parse_args()
    found = asyncio.run(measure(asked.pending, asked.samples))
    reached = {
        "list": found["list_ms"]["p95"] <= TARGETS_MS["list"],
        "approve_to_execute": found["approve_to_execute_ms"]["p95"] <= TARGETS_MS["approve_to_execute"],
        "live": found["live_ms"]["max"] <= TARGETS_MS["live"],
    }
    found |= {"targets_ms": TARGETS_MS, "reached": reached}
    target = Path("build/approvals-load.json")
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    return 0 if all(reached.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
