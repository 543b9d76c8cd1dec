"""A real Chromium in front of a real gateway."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright

from tests.browser import axe
from tests.browser.scene import Scene, scene

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1360, "height": 900}


@pytest.fixture(scope="module")
def company(tmp_path_factory) -> Iterator[tuple[Scene, dict[str, str]]]:
    with scene(tmp_path_factory.mktemp("company")) as made:
        yield made, asyncio.run(made.a_morning())


@pytest.fixture(scope="session")
def axe_script() -> str:
    return axe.source()


class Desk:
    """Somebody at a browser, signed in; ``said`` is what the page complained of."""

    def __init__(self, page: Page, base: str, said: list[str]) -> None:
        self.page = page
        self.base = base
        self.said = said

    async def go(self, path: str) -> Page:
        answer = await self.page.goto(f"{self.base}{path}")
        assert answer is not None and answer.status == 200, (path, answer and answer.status)
        return self.page


Open = Callable[..., Any]


@pytest.fixture
async def browser() -> AsyncIterator[Any]:
    # A sandbox needs privileges that a container often has not; only our own pages are opened.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        yield started
        await started.close()


@pytest.fixture
def at_desk(browser, company) -> Open:
    made, _ = company

    @asynccontextmanager
    async def open_desk(who: str, **options: Any) -> AsyncIterator[Desk]:
        context = await browser.new_context(**{"viewport": DESKTOP, "reduced_motion": "reduce", **options})
        page = await context.new_page()
        said: list[str] = []
        page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        await page.goto(f"{made.console}/login")
        await page.fill("#key", made.people[who])
        await page.press("#key", "Enter")
        await page.wait_for_url("**/console/queue")
        yield Desk(page, made.console, said)
        await context.close()

    return open_desk
