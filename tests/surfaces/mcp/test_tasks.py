"""Tasks over a desk of held calls: who sets off what was approved, and who cannot."""

from __future__ import annotations

import asyncio

import msgspec
import orjson
import pytest

from gateway.approvals.queue import Queue, Snapshot
from gateway.clock import SystemClock
from gateway.errors import Refused
from gateway.held import Held
from gateway.model import Refusal
from gateway.ports import HeldCall
from gateway.surfaces.mcp.changes import Outbox
from gateway.surfaces.mcp.tasks import Tasks
from tests.approvals.support import opening, people, store_at
from tests.play import AGENT, Stage

ALICE = msgspec.structs.replace(AGENT, tenant="default", agent="alice", owner="team-a")


def scopeless(principal):
    return msgspec.structs.replace(principal, missing_scopes=("wardgate:call",))


class Desk:
    """One held call; made again it goes through the pipeline with the rights of who looks."""

    offered = True

    def __init__(self, stage: Stage, state: str = "ready") -> None:
        self.stage = stage
        self.state = state

    async def look(self, principal, approval_id):
        over = Refusal(code="approval_expired", message="It is over.") if self.stage.sent else None
        ask = self.stage.asked(principal=principal)
        return HeldCall(
            id=approval_id, state="over" if over else self.state, message="It was approved.", opened_ns=0,
            changed_ns=0, until_ns=10**18, ask=ask, refusal=over,
        )  # fmt: skip


async def test_a_look_with_a_token_that_lacks_scopes_does_not_end_the_task():
    stage = Stage()
    tasks = Tasks(Desk(stage), stage.parts)
    looked = orjson.loads(await tasks.get(scopeless(AGENT), "a1"))
    assert looked["status"] == "working" and "result" not in looked and not stage.sent
    done = orjson.loads(await tasks.get(AGENT, "a1"))
    assert done["status"] == "completed" and not done["result"].get("isError") and len(stage.sent) == 1


@pytest.mark.parametrize("revoked", [True, False])
async def test_a_client_that_reads_nothing_carries_out_nothing_after_its_key_was_revoked(revoked):
    stage = Stage()
    desk = Desk(stage, "waiting")
    outbox = Outbox(AGENT, None, "", orjson.Fragment(b"1"))
    holds = [AGENT]

    async def held():
        return holds[0]

    watching = Tasks(desk, stage.parts).watch(outbox, ["a1"], held)
    try:
        async with asyncio.timeout(5):
            await outbox.wait()
            desk.state = "ready"
            if revoked:
                holds[0] = None
            await watching
        assert len(stage.sent) == (not revoked)
    finally:
        watching.cancel()


async def test_a_token_that_lacks_scopes_takes_no_call_back(tmp_path):
    store = store_at(tmp_path / "w.db")
    people(store.database, "ann")
    facts = msgspec.json.encode(Snapshot(principal=ALICE)).decode()
    approval = store.open(opening(facts_json=facts)).approval
    queue = Queue(
        store, clock=SystemClock(), policy_revision=lambda: "r1", owner_of=lambda tenant, agent: None,
        unenforced=lambda stage, reason: None, noticed=lambda notice: None,
    )  # fmt: skip
    tasks = Tasks(Held(queue), Stage().parts)
    with pytest.raises(Refused) as refused:
        await tasks.cancel(scopeless(ALICE), approval.id)
    assert refused.value.code == "insufficient_scope" and store.state_of(approval.id) == "pending"
    await tasks.cancel(ALICE, approval.id)
    assert store.state_of(approval.id) == "cancelled"
    store.database.close()
