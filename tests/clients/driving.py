"""What every driver in Python shares: where to connect, what to do, and how to say what was seen.

A driver is a script of its own, run with an environment that has one client library and nothing of
wardgate in it::

    WARDGATE_KEY=… python drive_NAME.py URL [MODE] < steps.json

It prints one JSON object: the client's version, the tools offered, and for each call what came back. For
an agent framework that is what its *model* was given; the model is scripted and calls what the steps say.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from importlib.metadata import version
from typing import Any

URL = sys.argv[1]
MODE = sys.argv[2] if len(sys.argv) > 2 else ""
KEY = os.environ["WARDGATE_KEY"]
STEPS: list[dict[str, Any]] = json.load(sys.stdin)


class Turns:
    """The turns of a scripted model: all calls of one step, then all calls of the next, then nothing."""

    def __init__(self) -> None:
        self._left = iter(STEPS)
        self._results: dict[str, str] = {}
        self.tools: list[str] = []

    def next(self) -> list[tuple[str, str, dict[str, Any]]]:
        """The calls of the next turn as (id, tool, arguments); empty when the work is done."""
        step = next(self._left, None)
        if step is None:
            return []
        return [
            (f"{step['name']}-{n}", call["tool"], call["arguments"]) for n, call in enumerate(step["calls"])
        ]

    def saw(self, call_id: str, text: str) -> None:
        """The model's input has this as the result of that call."""
        self._results[call_id] = text

    def steps(self) -> dict[str, list[dict[str, Any]]]:
        return {
            step["name"]: [
                {"text": self._results[f"{step['name']}-{n}"]}
                for n, _ in enumerate(step["calls"])
                if f"{step['name']}-{n}" in self._results
            ]
            for step in STEPS
        }


class Elsewhere:
    """Another worker of the same agent, beside a framework that makes its calls one after the other.

    It takes the first of two calls at once, so that the framework's own is the one that is turned away.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._work: list[asyncio.Task[None]] = []

    async def next(self) -> list[tuple[str, str, dict[str, Any]]]:
        """The calls left for the framework; what is under way elsewhere has ended, or has begun."""
        await asyncio.gather(*self._work)
        turn = self._turns.next()
        if len(turn) > 1:
            begun = asyncio.Event()
            self._work = [asyncio.create_task(self._make(*turn[0], begun))]
            await begun.wait()
        return turn[-1:]

    async def _make(self, call_id: str, tool: str, arguments: dict[str, Any], begun: asyncio.Event) -> None:
        import httpx2
        import mcp
        from mcp.client.streamable_http import streamable_http_client

        async def progressed(*_: object) -> None:
            begun.set()

        http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {KEY}"}, timeout=60)
        async with http, mcp.Client(streamable_http_client(URL, http_client=http)) as client:
            got = await client.call_tool(tool, arguments, progress_callback=progressed)
        self._turns.saw(call_id, "\n".join(getattr(block, "text", "") for block in got.content))


def result(blocks: Any, structured: Any, failed: bool) -> dict[str, Any]:
    """A result as a program that uses the client directly has it: all text, and the structured part."""
    text = "\n".join(getattr(block, "text", repr(block)) for block in blocks)
    return {"text": text, "structured": structured, "failed": bool(failed)}


def report(package: str, tools: list[str], steps: dict[str, Any], progress: int | None = None) -> None:
    """Say what was seen. ``progress`` counts notifications, where the client shows them to its user."""
    said = {"version": version(package), "tools": tools, "steps": steps, "progress": progress}
    print(json.dumps(said))
