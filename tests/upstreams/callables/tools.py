"""What an operator would write."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import threading
import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from gateway.upstreams.python import ToolError

release = threading.Event()
ran: list[str] = []


class Sum(BaseModel):
    total: int
    on: datetime.date | None = None


class Point(TypedDict):
    x: int
    y: int


def add(left: int, right: Annotated[int, Field(ge=0, description="Not below zero.")] = 1) -> Sum:
    """Add two numbers."""
    return Sum(total=left + right, on=datetime.date(2026, 1, 2))


async def greet(name: str, *, style: Literal["short", "long"] = "short") -> str:
    await asyncio.sleep(0)
    return f"Hello, {name}." if style == "long" else f"Hi {name}"


def move(point: Point, schema: str = "", copy: bool = False) -> Point:
    return {"x": point["x"] + 1, "y": point["y"]}


def nothing() -> None:
    ran.append("nothing")


def many() -> list[int]:
    return [1, 2]


def refuses() -> str:
    raise ToolError("Only on weekdays.")


def fails() -> str:
    raise ValueError("password=hunter2")


def exits() -> str:
    raise SystemExit(3)


def stops() -> str:
    raise StopIteration


def times_out() -> str:
    raise TimeoutError("inner secret")


def waits() -> str:
    ran.append("waits")
    release.wait(30)
    return "late"


async def sleeps() -> str:
    await asyncio.sleep(30)
    return "late"


async def stubborn() -> str:
    ran.append("stubborn")
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        with contextlib.suppress(asyncio.CancelledError):  # it does not listen
            await asyncio.sleep(0.1)
    return "late"


class Counter:
    """Counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, by: int) -> int:
        self.count += by
        return self.count


TOOLS = [add, greet, move, nothing, many, refuses, fails, exits, stops, times_out, waits, sleeps, stubborn]
NAMED: dict[str, Any] = {"count": Counter(), "add.up": add}
EMPTY: list[Any] = []


def untyped(a) -> int:  # type: ignore[no-untyped-def]
    return 0


def variable(*args: int) -> int:
    return 0


def forward(a: NotThere) -> int:  # type: ignore[name-defined]  # noqa: F821
    return 0


TWICE = [add, add]
NUMBER = 3
ODD = {"has space": add}
