"""Plays the scenario once before a real Prometheus and real OTLP receivers, and keeps everything they say."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from observability import queries
from tests.observability.prometheus import Prometheus, prometheus
from tests.observability.scenario import stage

RATE_INTERVAL = "30s"  # wide, because the end of the scenario is quiet


class Proof:
    """Plain data, so that each test asks its own question of the same run."""

    def __init__(self) -> None:
        self.panels: dict[queries.Asked, list[dict[str, Any]]] = {}
        self.names: set[str] = set()  # of series
        self.labels: dict[str, set[str]] = {}
        self.rules: list[dict[str, Any]] = []
        self.exemplars: list[dict[str, Any]] = []
        self.spans: dict[str, list[Any]] = {}  # by protocol
        self.bodies: list[bytes] = []
        self.log = ""
        self.text = ""  # a scrape as Prometheus asks for it
        self.seconds: tuple[float, float] = (0, 0)
        self.logs: list[str] = []


async def played(folder: Path, *, ordinary_s: float = 6, picture: Path | None = None) -> Proof:
    """The whole run. ``picture``: where to draw the overview as it was."""
    proof = Proof()
    async with stage(folder) as (both, story):
        with prometheus(folder / "prometheus", both.targets) as watching:
            await watching.ready()
            began = time.time()
            await story.play(folder, ordinary_s)
            await story.settled()
            ended = time.time()
            proof.seconds = (began, ended)
            await _ask(watching, proof, began, ended)
            if picture is not None:
                from observability.picture import draw

                picture.parent.mkdir(parents=True, exist_ok=True)
                picture.write_text(await draw(watching, began + 5, ended), encoding="utf-8")
        proof.logs = both.main.log().splitlines()
        both.main.stop()
        both.other.stop()
        proof.spans = {"http": both.over_http.spans, "grpc": both.over_grpc.spans}
        proof.bodies = [*both.over_http.bodies, *both.over_grpc.bodies]
    return proof


async def _ask(watching: Prometheus, proof: Proof, began: float, ended: float) -> None:
    for board in queries.boards().values():
        for asked in queries.asked(board, job="wardgate", rate_interval=RATE_INTERVAL):
            proof.panels[asked] = (
                await watching.series(asked.expr)
                if asked.instant
                else await watching.over(asked.expr, began, ended)
            )
    proof.names = set(await watching.api("label/__name__/values"))
    for label in await watching.api("labels"):
        proof.labels[label] = set(await watching.api(f"label/{label}/values"))
    proof.rules = [
        rule for group in (await watching.api("rules"))["groups"] for rule in group["rules"]
    ]  # fmt: skip
    proof.exemplars = await watching.api(
        "query_exemplars", query="wardgate_requests_total", start=str(began), end=str(ended)
    )
