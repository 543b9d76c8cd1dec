"""The catalog keeps itself current, and a bad upstream cannot make it busy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gateway.catalog import refresher
from gateway.catalog.catalog import ToolCatalog
from gateway.catalog.refresher import Refresher
from gateway.config_upstream import UpstreamConfig
from gateway.errors import NotSent

Fetch = Callable[[str, str], Awaitable[Any]]


@pytest.fixture
async def keep(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Awaitable[tuple[Any, Any]]]]:
    """``await keep(fetch, names…)``: a catalog and its running refresher, with short times."""
    monkeypatch.setattr(refresher, "RETRY_S", 0.05)
    monkeypatch.setattr(refresher, "QUIET_S", 0.1)
    monkeypatch.setattr(refresher, "FIRST_ROUND_S", 0.3)
    running: list[Refresher] = []

    async def start(fetch: Fetch, *names: str, every_s: float = 60.0) -> tuple[ToolCatalog, Refresher]:
        catalog = ToolCatalog({name: UpstreamConfig(url="http://127.0.0.1:1/") for name in names})
        running.append(Refresher(catalog, fetch, every_s=every_s))  # type: ignore[arg-type]  # kinds as text
        await running[-1].start()
        return catalog, running[-1]

    yield start
    for each in running:
        await each.close()


async def test_an_upstream_that_comes_up_later_appears_by_itself(keep: Any) -> None:
    attempts = 0

    async def fetch(upstream: str, kind: str) -> Any:
        nonlocal attempts
        attempts += kind == "tool"
        if attempts < 4:
            raise NotSent("upstream_unavailable")
        return [{"name": "t"}] if kind == "tool" else None

    catalog, _ = await keep(fetch, "up")
    assert not catalog.tools("tool") and catalog.stale == ("up",)
    await asyncio.sleep(0.6)
    assert [tool.name for tool in catalog.tools("tool")] == ["t"]


async def test_one_that_hangs_delays_neither_the_start_for_long_nor_the_others(keep: Any) -> None:
    async def fetch(upstream: str, kind: str) -> Any:
        if upstream == "hangs":
            await asyncio.sleep(60)
        return [{"name": "t"}] if kind == "tool" else None

    before = asyncio.get_running_loop().time()
    catalog, _ = await keep(fetch, "hangs", "works")
    assert asyncio.get_running_loop().time() - before < 1.0
    assert [tool.target for tool in catalog.tools("tool")] == ["works/t"]


async def test_a_changed_list_is_asked_for_again_but_not_in_a_loop(keep: Any) -> None:
    asked = 0

    async def fetch(upstream: str, kind: str) -> Any:
        nonlocal asked
        asked += kind == "tool"
        return [{"name": f"t{asked}"}] if kind == "tool" else None

    catalog, running = await keep(fetch, "up")
    for _ in range(50):
        running.changed("up")
        running.changed("nobody")
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    assert 3 <= asked <= 9, "50 cries in half a second, at most one question each 0.1 s"
    assert catalog.resolve("tool", "up", f"t{asked}")


async def test_lists_are_asked_for_again_after_a_while(keep: Any) -> None:
    asked = 0

    async def fetch(upstream: str, kind: str) -> Any:
        nonlocal asked
        asked += kind == "tool"
        return []

    await keep(fetch, "up", every_s=0.1)
    await asyncio.sleep(0.7)
    assert asked >= 3


async def test_a_fault_of_ours_in_one_list_does_not_end_the_refreshing(keep: Any) -> None:
    asked = 0

    async def fetch(upstream: str, kind: str) -> Any:
        nonlocal asked
        asked += kind == "tool"
        if asked == 1:
            raise ZeroDivisionError
        return [{"name": "t"}] if kind == "tool" else None

    catalog, _ = await keep(fetch, "up")
    await asyncio.sleep(0.3)
    assert catalog.tools("tool")


async def test_what_waits_to_be_stored_brings_the_next_look_forward(
    keep: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresher, "SAVE_S", 0.1)
    asked = 0

    async def fetch(upstream: str, kind: str) -> Any:
        nonlocal asked
        asked += kind == "tool"
        return [{"name": "t"}] if kind == "tool" else None

    catalog, running = await keep(fetch, "up")
    await asyncio.sleep(0.5)
    assert asked == 1
    monkeypatch.setattr(catalog, "unsaved", lambda upstream: asked < 4)
    running.changed("up")
    await asyncio.sleep(1.5)
    assert asked == 4, "as long as something waits, and no longer"
