"""A real Prometheus that scrapes gateways of a test, with the project's own configuration and rules."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

OBSERVABILITY: Final = Path(__file__).parents[2] / "observability"
INTERVAL: Final = "1s"


class Prometheus:
    """Its process and its API. ``targets`` are host:port of admin ports."""

    def __init__(self, folder: Path, targets: Sequence[str]) -> None:
        folder.mkdir()
        config: dict[str, Any] = yaml.safe_load((OBSERVABILITY / "prometheus/prometheus.yml").read_text())
        config["global"] = {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL}
        config["rule_files"] = [str(OBSERVABILITY / "prometheus/rules/*.yml")]
        [job] = [job for job in config["scrape_configs"] if job["job_name"] == "wardgate"]
        job["scrape_timeout"] = INTERVAL
        job["static_configs"] = [{"targets": list(targets)}]
        config["scrape_configs"] = [job]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [
                shutil.which("prometheus") or "prometheus", f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}",
                "--enable-feature=exemplar-storage", "--log.level=warn",
            ],
            stdout=self._log, stderr=self._log,
        )  # fmt: skip

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)
        self._log.close()

    async def api(self, path: str, **query: str) -> Any:
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{self.url}/api/v1/{path}", params=query) as answer,
        ):
            said = await answer.json()
        assert said["status"] == "success", (said, query)
        return said["data"]

    async def ready(self, timeout_s: float = 30) -> None:
        until = time.monotonic() + timeout_s
        while True:
            try:
                targets = await self.api("targets")
                if targets["activeTargets"] and all(
                    each["health"] == "up" for each in targets["activeTargets"]
                ):
                    return
            except (aiohttp.ClientError, AssertionError):
                pass
            assert time.monotonic() < until, "Prometheus does not scrape"
            await asyncio.sleep(0.1)

    async def series(self, expr: str) -> list[dict[str, Any]]:
        """What an expression is now."""
        found: list[dict[str, Any]] = (await self.api("query", query=expr))["result"]
        return found

    async def over(self, expr: str, start: float, end: float, step: float = 1) -> list[dict[str, Any]]:
        """What an expression was, series by series."""
        asked = {"query": expr, "start": str(start), "end": str(end), "step": str(step)}
        found: list[dict[str, Any]] = (await self.api("query_range", **asked))["result"]
        return found


@contextmanager
def prometheus(folder: Path, targets: Sequence[str]) -> Iterator[Prometheus]:
    running = Prometheus(folder, targets)
    try:
        yield running
    finally:
        running.close()
