"""Whoever watches hears of everything, soon, and of nobody else's."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.approvals.feed import MOST, Feed
from tests.approvals.support import opening, people, reviewer, seen, store_at


@pytest.fixture
def store(tmp_path):
    made = store_at(tmp_path / "w.db", max_pending_per_agent=1000)
    people(made.database, "ann")
    people(made.database, "ann", tenant="other")
    yield made
    made.database.close()


async def test_a_change_is_heard_within_a_second_also_from_another_process(store):
    feed = Feed(store)
    cursor = await feed.newest()
    waiting = asyncio.create_task(feed.after("default", cursor, 10))
    await asyncio.sleep(0.3)
    started = time.monotonic()
    made = await asyncio.to_thread(store.open, opening())  # by nobody who knows of this feed
    found, cursor = await waiting
    assert time.monotonic() - started < 1
    assert [(each.event, each.approval.id) for each in found] == [("opened", made.approval.id)]
    waiting = asyncio.create_task(feed.after("default", cursor, 10))
    await asyncio.sleep(0.1)
    await asyncio.to_thread(store.vote, made.approval.id, reviewer("ann"), "approve", seen(made.approval))
    found, _ = await waiting
    assert found[-1].approval.state == "approved"


async def test_nothing_is_missed_between_two_looks_nor_heard_twice(store):
    feed = Feed(store)
    for number in range(MOST + 5):
        store.open(opening(asked_digest=f"d{number}", digest=f"d{number}"))
    first, cursor = await feed.after("default", 0, 0)
    second, end = await feed.after("default", cursor, 0)
    third, _ = await feed.after("default", end, 0)
    numbers = [each.number for each in (*first, *second)]
    assert len(first) == MOST and len(numbers) == len(set(numbers)) == MOST + 5 and third == []


async def test_another_tenant_hears_nothing_and_waits_no_longer_than_it_said(store):
    feed = Feed(store)
    store.open(opening())
    started = time.monotonic()
    found, cursor = await feed.after("other", 0, 0.5)
    assert found in ([], ()) and cursor > 0 and 0.4 < time.monotonic() - started < 2


async def test_nobody_looks_when_nobody_watches(store):
    feed = Feed(store)
    await asyncio.gather(*(feed.after("default", 0, 0.1) for _ in range(20)))
    await asyncio.sleep(0.5)
    assert feed._poll is None
