"""Monitors and provenance reach the facts, count for whole trees of sessions, and survive a crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import StateError
from gateway.model import Outcome
from gateway.ports import Shown
from gateway.sessions.mandate import parse
from gateway.sessions.monitors import Monitors, read
from gateway.sessions.rules import SessionRules
from tests.state.world import NOT_SENT, crashed, living, tool, written

SEND = tool("send", "irreversible", effects=("write", "egress"))
ORDER = tool("order", "reversible")
BOOK = tool("book", trusted_fields=("/contacts/*/email",), integrity="untrusted")
WATCHED = Monitors(read({"monitors": {"two-sends": {"at_most_n": {"match": {"tools": ["u/send"]}, "n": 2}}}}))
CONTACTS = b'{"structuredContent":{"contacts":[{"email":"ann@corp.example","name":"eve@evil.example"}]}}'


async def seen(world, to: str, **more) -> dict:
    _, facts = await world.begin(SEND, {"to": to, "body": "hello"}, **more)
    return facts.provenance["/to"]


async def test_a_limit_of_two_stops_the_third_and_not_a_call_that_never_went(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db", monitors=WATCHED) as world:
        await world.call(SEND, {"n": 1}, outcome=NOT_SENT)
        await world.call(SEND, {"n": 2}, outcome=None)
        for number in (3, 4):
            facts = await world.call(SEND, {"n": number})
            assert not facts.fast["session"]["monitors"]["two-sends"]["violated"]
        _, facts = await world.begin(SEND, {"n": 5})
        assert facts.fast["session"]["monitors"]["two-sends"]["violated"]


async def test_calls_under_way_count_too(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db", monitors=WATCHED) as world:
        for number in (1, 2):
            await world.begin(SEND, {"n": number})
        _, facts = await world.begin(SEND, {"n": 3})
        assert facts.fast["session"]["monitors"]["two-sends"]["violated"]


async def test_what_a_child_does_counts_for_those_above_it(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db", monitors=WATCHED) as world:
        sessions = world.state.sessions
        given = {"objective": "x", "tools": ["u/*"]}
        parent = await sessions.open(tenant="t", agent="bot", subject=None, mandate=given, by="operator")
        children = [
            await sessions.open(
                tenant="t", agent="bot", subject=None, mandate=None, by="bot", parent=parent.whose.id
            )
            for _ in range(3)
        ]
        for child in children[:2]:
            await world.call(SEND, {"n": child.whose.id}, session=child.whose.id)
        _, facts = await world.begin(SEND, {"n": 9}, session=children[2].whose.id)
        assert facts.fast["session"]["monitors"]["two-sends"]["violated"]


async def test_monitors_and_values_are_known_after_a_crash(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db", monitors=WATCHED) as world:
        await world.call(BOOK, shown=Shown(CONTACTS, True))
        for number in (1, 2):
            await world.call(SEND, {"n": number})
        await written(world)
        image = crashed(tmp_path / "w.db", tmp_path / "after")
        await world.remembered.keeper.save()
        saved = crashed(tmp_path / "w.db", tmp_path / "saved")
    for file in (image, saved):
        async with living(file, monitors=WATCHED, clock=world.clock) as again:
            _, facts = await again.begin(SEND, {"to": "ann@corp.example"})
            assert facts.fast["session"]["monitors"]["two-sends"]["violated"]
            assert facts.provenance["/to"]["source"] == "trusted"
            assert (await seen(again, "eve@evil.example"))["source"] == "untrusted"


async def test_a_recipient_is_trusted_where_the_user_the_mandate_or_a_trusted_field_names_it(
    tmp_path: Path,
) -> None:
    given = parse(
        {
            "objective": "mail", "tools": ["u/*"], "request": "write to bob@corp.example about lunch",
            "trusted_values": ["cfo@corp.example"],
        },
        now_ns=0,
    )  # fmt: skip
    async with living(tmp_path / "w.db", SessionRules(mandates={("t", "bot"): given})) as world:
        await world.call(BOOK, shown=Shown(CONTACTS, True))
        sources = {
            to: (await seen(world, to))["source"]
            for to in (
                "bob@corp.example",
                "cfo@corp.example",
                "ann@corp.example",
                "eve@evil.example",
                "x@y.example",
            )
        }
        assert sources == {
            "bob@corp.example": "user", "cfo@corp.example": "mandate", "ann@corp.example": "trusted",
            "eve@evil.example": "untrusted", "x@y.example": "none",
        }  # fmt: skip


async def test_a_result_nobody_was_shown_vouches_for_nothing(tmp_path: Path) -> None:
    async with living(tmp_path / "w.db") as world:
        await world.call(BOOK, outcome=Outcome(status="withheld", result_json=CONTACTS), shown=Shown())
        assert (await seen(world, "ann@corp.example"))["source"] == "none"


async def test_a_mandate_that_no_longer_vouches_is_not_believed(tmp_path: Path) -> None:
    before = parse({"objective": "x", "tools": ["u/*"], "trusted_values": ["a@b.example"]}, now_ns=0)
    after = parse({"objective": "x", "tools": ["u/*"]}, now_ns=0)
    async with living(tmp_path / "w.db", SessionRules(mandates={("t", "bot"): before})) as world:
        assert (await seen(world, "a@b.example"))["source"] == "mandate"
        world.state.rules = SessionRules(mandates={("t", "bot"): after})
        assert (await seen(world, "a@b.example"))["source"] == "none"


async def test_every_fact_of_a_session_is_described(tmp_path: Path) -> None:
    given = parse(
        {"objective": "x", "tools": ["u/*"], "horizon": {"actions": 2}, "budgets": {"calls": 9}}, now_ns=0
    )
    page = (Path(__file__).parents[2] / "docs/reference/policy.md").read_text()
    async with living(
        tmp_path / "w.db", SessionRules(mandates={("t", "bot"): given}), monitors=WATCHED
    ) as world:
        await world.call(BOOK, shown=Shown(CONTACTS, True))
        _, facts = await world.begin(SEND, {"to": "ann@corp.example"})
    session = facts.fast["session"]
    names = {*session, *session["progress"], *session["last"][0], *session["monitors"]["two-sends"]}
    names |= {*facts.slow["mandate"], *facts.fast["budget"]["session"]["calls"], *facts.provenance["/to"]}
    missing = [name for name in names if f"`{name}`" not in page and f"`{name}." not in page]
    assert not missing


async def test_facts_that_cannot_be_gathered_leave_nothing_reserved(tmp_path: Path, monkeypatch) -> None:
    given = parse({"objective": "x", "tools": ["u/*"], "budgets": {"calls": 9}}, now_ns=0)
    async with living(tmp_path / "w.db", SessionRules(mandates={("t", "bot"): given})) as world:
        keyed = tool("pay", "irreversible", effect_key="pay:{id}")

        def broken(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr("gateway.state.memory.provenance", broken)
        with pytest.raises(StateError):
            await world.begin(keyed, {"id": 1})
        call = world.last
        await world.state.settle(call, "block", None)  # as the pipeline does with a fault
        monkeypatch.undo()
        _, facts = await world.begin(keyed, {"id": 1})
        assert facts.effect == "free"
        assert facts.fast["budget"]["session"]["calls"]["reserved"] == 1, "its own"
