"""A client that leaves is noticed when its call lasts, and a call that does not last pays nothing for it."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.surfaces.mcp.callers import WATCH_AFTER_S, ModernCaller, Watch
from gateway.surfaces.mcp.stream import Exchange


async def nothing(_: Any) -> None: ...


def a_caller(watch: Watch, gone: asyncio.Event) -> ModernCaller:
    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    return ModernCaller(Exchange(nothing, True, True), receive, watch)


async def test_who_leaves_a_call_that_lasts_is_noticed_at_once():
    watch, gone, told = Watch(), asyncio.Event(), asyncio.Event()
    caller = a_caller(watch, gone)
    caller.attach(told.set)
    await asyncio.sleep(3 * WATCH_AFTER_S)
    assert not told.is_set()
    gone.set()
    await asyncio.wait_for(told.wait(), 0.02)
    caller.done()


async def test_who_left_before_anybody_watched_is_noticed_soon():
    watch, gone, told = Watch(), asyncio.Event(), asyncio.Event()
    gone.set()
    caller = a_caller(watch, gone)
    caller.attach(told.set)
    await asyncio.wait_for(told.wait(), 4 * WATCH_AFTER_S)
    caller.done()


async def test_calls_that_are_over_leave_nothing_and_nothing_ticks_for_nobody():
    watch, gone = Watch(), asyncio.Event()
    told: list[int] = []
    for number in range(1000):
        caller = a_caller(watch, gone)
        caller.attach(lambda number=number: told.append(number))
        caller.done()
    assert not watch._new
    gone.set()
    await asyncio.sleep(3 * WATCH_AFTER_S)
    assert told == [] and not watch._ticking and not watch._old


async def test_a_call_that_ends_while_it_is_watched_is_not_given_up():
    watch, gone, told = Watch(), asyncio.Event(), asyncio.Event()
    caller = a_caller(watch, gone)
    caller.attach(told.set)
    await asyncio.sleep(3 * WATCH_AFTER_S)
    caller.done()
    gone.set()
    await asyncio.sleep(0.02)
    assert not told.is_set()
