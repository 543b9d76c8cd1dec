"""What waits to be verified is bounded, nothing it does reaches an agent, and each one comes to one end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from gateway.approvals.absent import NoApprovals
from gateway.model import Manifest, Outcome, Principal, Tool, Verified, Verify
from gateway.verification import MAX_WAITING_OF_AGENT, Verifications
from tests.play import AGENT, Stage, tool

VERIFY = Verify(tool="get", match={"/done": True}, attempts=1, within_s=5)
WRITE = tool(manifest=Manifest(risk="reversible", verify=VERIFY))
DONE = Outcome(status="ok", result_json=b'{"content":[]}')


def holding(value: Any) -> Outcome:
    return Outcome(status="ok", result_json=json.dumps({"structuredContent": value}).encode())


class House(Stage):
    """A stage on which one tool writes and another is read; reads wait at ``gate``."""

    def __init__(self, write: Tool = WRITE, read: Outcome = holding({"done": True}), **script: Any) -> None:  # noqa: B008
        super().__init__(**script)
        self.write, self.read = write, read
        self.gate = asyncio.Event()
        self.gate.set()
        self.heard: list[Verified] = []
        self.under_way = self.most = 0
        self.verifications = self.made()

    def made(self, **bounds: Any) -> Verifications:
        return Verifications(
            lambda: self.parts(), approvals=NoApprovals(), told=(self._broken, self.heard.append), **bounds
        )

    def _broken(self, found: Verified) -> None:
        raise RuntimeError("a listener that fails")

    def parts(self) -> Any:
        return msgspec.structs.replace(super().parts(), verifications=self.verifications)

    def resolve(self, kind: Any, upstream: str, name: str) -> Tool:
        if name == self.write.name:
            return self.write
        return msgspec.structs.replace(tool("read"), name=name, target=f"{upstream}/{name}")

    async def execute(self, call: Any, dialogue: Any) -> Outcome:
        if call.tool.writes:
            return DONE
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.gate.wait()
        finally:
            self.under_way -= 1
        return self.read

    async def over(self, count: int = 1) -> list[Verified]:
        async with asyncio.timeout(5):
            while len(self.heard) < count:
                await asyncio.sleep(0)
        return self.heard


async def test_the_answer_comes_first_and_is_the_same_whatever_the_read_says() -> None:
    answers = []
    for read in (
        holding({"done": True}),
        holding({"done": False}),
        Outcome(status="in_doubt", code="upstream_lost"),
    ):
        house = House(read=read)
        house.gate.clear()
        answer = await house.ask()
        assert not house.heard and answer.result_json == DONE.result_json
        house.gate.set()
        (found,) = await house.over()
        assert found.call_id == answer.call_id
        answers.append(found.result)
    assert answers == ["verified", "refuted", "unknown"]


async def test_a_fault_in_verifying_is_unknown_and_a_deaf_listener_keeps_nothing_from_the_others() -> None:
    house = House(read=None)  # type: ignore[arg-type]  # a bug of ours: there is always an outcome
    answer = await house.ask()
    assert answer.refusal is None
    (found,) = await house.over()
    assert found.result == "unknown"


async def test_a_read_that_verifies_is_not_verified_itself() -> None:
    """A circle of tools that verify each other would never end."""
    house = House(msgspec.structs.replace(WRITE, name="get"))
    house.verifications.answered(_call(house, AGENT, "verify"), DONE)
    await asyncio.sleep(0.01)
    assert house.verifications.waiting == 0 and not house.heard


async def test_a_tool_that_turns_out_to_write_is_never_called_to_verify() -> None:
    house = House(
        msgspec.structs.replace(WRITE, manifest=Manifest(risk="reversible", verify=VERIFY), name="get")
    )
    house.verifications.answered(_call(house, AGENT), DONE)
    (found,) = await house.over()
    assert (found.result, found.reads) == ("unknown", 0)
    assert "execute" not in house.told and "is not a read" in found.detail


async def test_reads_at_once_and_what_waits_is_bounded_in_all_and_for_each_agent() -> None:
    house = House()
    house.gate.clear()
    house.verifications = house.made(at_once=3, waiting=MAX_WAITING_OF_AGENT + 10)
    for _ in range(MAX_WAITING_OF_AGENT + 50):
        house.verifications.answered(_call(house, AGENT), DONE)
    assert house.verifications.waiting == MAX_WAITING_OF_AGENT
    assert {(found.result, found.detail) for found in house.heard} == {
        ("unknown", "too many verifications were waiting")
    }
    assert len(house.heard) == 50
    other = msgspec.structs.replace(AGENT, agent="other")
    for _ in range(20):
        house.verifications.answered(_call(house, other), DONE)
    assert house.verifications.waiting == MAX_WAITING_OF_AGENT + 10, "another agent has its turn"
    await asyncio.sleep(0.01)
    assert house.under_way == 3
    house.gate.set()
    await house.over(MAX_WAITING_OF_AGENT + 70)
    await asyncio.sleep(0.01)
    assert (house.most, house.verifications.waiting) == (3, 0)
    house.verifications.answered(_call(house, AGENT), DONE)
    await house.over(MAX_WAITING_OF_AGENT + 71)


async def test_an_agent_whose_calls_fill_its_own_bound_is_verified_all_the_same() -> None:
    """The reads have places of their own, or they would be refused exactly when there is much to verify."""
    house = House()
    taken = 0
    while True:
        try:
            house.limits.enter(AGENT)
            taken += 1
        except Exception:
            break
    house.verifications.answered(_call(house, AGENT), DONE)
    (found,) = await house.over()
    assert taken and found.result == "verified"


@pytest.mark.parametrize(("read", "result"), [({"done": True}, "verified"), ({"done": False}, "unknown")])
async def test_a_drain_cuts_waits_short_and_leaves_nothing_without_an_end(read: Any, result: str) -> None:
    later = msgspec.structs.replace(VERIFY, after_s=60, within_s=120)
    house = House(tool(manifest=Manifest(risk="reversible", verify=later)), holding(read))
    await house.ask()
    await asyncio.sleep(0.01)
    assert not house.heard
    await house.verifications.drain(5)
    assert [found.result for found in house.heard] == [result]
    house.verifications.answered(_call(house, AGENT), DONE)
    assert (house.heard[-1].result, house.heard[-1].detail) == ("unknown", "the gateway was stopping")


async def test_a_drain_ends_in_time_though_reads_hang() -> None:
    house = House()
    house.gate.clear()
    for _ in range(20):
        house.verifications.answered(_call(house, AGENT), DONE)
    await asyncio.sleep(0.01)
    async with asyncio.timeout(2):
        await house.verifications.drain(0.1)
    assert [found.detail for found in house.heard] == ["the gateway was stopping"] * 20
    assert house.verifications.waiting == 0


def _call(house: House, principal: Principal, surface: str = "mcp") -> Any:
    from gateway.pipeline import _make

    asked = msgspec.structs.replace(house.asked(None, principal), surface=surface)
    return _make(house.parts(), asked, asked.session, house.write)
