"""The scene of trust plays on the product's own parts and notices when it goes otherwise."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from gateway.demo.earned import Scene, earn_and_lose
from gateway.storage.database import Database
from gateway.storage.trust import TrustStore, Where


async def test_an_agent_earns_t2_and_loses_it_on_a_clock_that_says_what_it_is(tmp_path: Path) -> None:
    shown = io.StringIO()
    assert await earn_and_lose(tmp_path, Console(file=shown, width=200)) == []
    text = shown.getvalue()
    assert "compressed clock" in text
    assert text.index("you sign T2") < text.index("an incident is reported")
    with Database(tmp_path / "earned.db").open() as database:
        store = TrustStore(database)
        where = Where("default", "support-bot", "customers")
        assert [event.kind for event in store.events(where)] == ["signed", "promoted", "fell"]
        evidence = store.evidence(where)
    # Nothing is made up: each outcome names its call, and there are as many as a bound of .98 takes.
    good = [row.call_id for row in evidence if row.good]
    assert len(set(good)) == len(good) >= 148


async def test_another_ending_is_noticed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Scene, "asks", lambda self: "goes")
    assert await earn_and_lose(tmp_path, Console(file=io.StringIO()))
