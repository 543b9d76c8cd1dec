"""Every state that an approval, two workers, the network and the people around them can be in together.

    make model-check          # python -m tests.approvals.model

The approval itself is the real ``gateway.approvals.machine``; around it is a small world: two workers that
read, claim, check, send and report; a network that loses requests and answers; crashes and pauses at every
point; a policy that flips and flips back; time that runs out; people who approve, reject, cancel, edit, and
say truthfully what they see when something is in doubt. The exploration is complete, breadth first, so a
violation comes with its shortest history.

Assumed, as in the real thing: what was handed to the transport arrives within the lease, or never (a lease is
longer than the send deadline and the deadline of the tool together).

The wrong variants are known to be wrong, and must be found wrong: a checker that finds nothing
proves nothing.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from gateway.approvals import machine as m

Phase = str  # idle, read, claimed, checked, sent, lost


class Worker(NamedTuple):
    phase: Phase = "idle"
    version: int = 0  # of the approval as it was read
    attempt: int = 0
    epoch: int = 0  # of the policy it was decided by
    revoked: bool = False  # its credential at the upstream


class World(NamedTuple):
    approval: m.Machine = m.Machine()
    version: int = 0
    workers: tuple[Worker, ...] = (Worker(), Worker())
    effects: int = 0
    allows: bool = True  # policy
    epoch: int = 0
    denied_claim: bool = False  # a claim was made that policy refused at that moment
    returned: bool = False  # claimed once, and unclaimed again


class Variant(NamedTuple):
    """What is done otherwise than in the real thing."""

    compare: bool = True  # claims compare the version
    bounded: bool = True  # no lapse while a worker is between its check and the wire
    fence: bool = False  # a lapse revokes the upstream credential of the attempt
    timeout_fails: bool = False  # no answer is recorded as "failed"
    requeue: bool = False  # a lapse makes it approved again
    retry: bool = False  # what is in doubt may be made approved again
    idempotent: bool = False
    upstream_dedups: bool = False
    blind_retry: bool = False  # a lapse of a tool that is not idempotent is tried again
    epoch: bool = True  # claims compare the control epoch


Step = tuple[str, World]

GOOD: Final[dict[str, Variant]] = {
    "as built: compare-and-set, send deadline below the lease": Variant(),
    "as built, idempotent tool": Variant(idempotent=True, upstream_dedups=True),
    "unbounded pauses, credential of each attempt revoked at its lapse": Variant(bounded=False, fence=True),
    "idempotent tool, credential revoked, unbounded pauses": Variant(
        bounded=False, fence=True, idempotent=True, upstream_dedups=True
    ),
}
BAD: Final[dict[str, Variant]] = {
    "no compare-and-set": Variant(compare=False),
    "no answer is recorded as failed": Variant(timeout_fails=True),
    "a lapse makes it approved again": Variant(requeue=True),
    "what is in doubt may be approved again": Variant(retry=True, bounded=False),
    "retry, with an unbounded pause between check and wire": Variant(blind_retry=True, bounded=False),
    "retry of a tool that is not idempotent": Variant(blind_retry=True),
    "unbounded pause before the wire, resolved meanwhile": Variant(bounded=False),
    "policy is not asked again at the claim": Variant(epoch=False),
}


class Found(NamedTuple):
    states: int
    violations: dict[str, list[str]]  # what is violated → the shortest history of it


def explore(variant: Variant, limit: int = 2_000_000) -> Found:
    """All worlds that can be reached, and what is wrong with them."""
    first = World(approval=m.Machine(idempotent=variant.idempotent or variant.blind_retry))
    came: dict[World, tuple[World | None, str]] = {first: (None, "")}
    queue = deque([first])
    violations: dict[str, list[str]] = {}
    while queue:
        world = queue.popleft()
        for name in wrong(world):
            violations.setdefault(name, _history(came, world))
        for event, after in steps(world, variant):
            if after not in came:
                came[after] = (world, event)
                queue.append(after)
        assert len(came) < limit, "the model is not finite"
    return Found(len(came), violations)


def wrong(world: World) -> Iterator[str]:
    if world.effects > 1:
        yield "the effect happened twice"
    if world.effects and world.approval.state in m.DENIES:
        yield f"recorded as {world.approval.state}, and the effect exists"
    if world.returned:
        yield "claimed, and unclaimed again"
    if world.denied_claim:
        yield "claimed although policy says no"


def steps(world: World, variant: Variant) -> Iterator[Step]:
    yield from _people(world, variant)
    yield from _time(world, variant)
    if world.epoch < 2:
        yield "policy flips", world._replace(allows=not world.allows, epoch=world.epoch + 1)
    for number, worker in enumerate(world.workers):
        for event, after in _work(world, worker, number, variant):
            yield f"worker {number + 1} {event}", after


def _people(world: World, variant: Variant) -> Iterator[Step]:
    yield from _try(world, "approved by people", m.approve)
    yield from _try(world, "rejected by people", m.reject)
    yield from _try(world, "cancelled", m.cancel)
    yield from _try(world, "edited", m.supersede)
    # They look at the upstream, and say what they see at that moment.
    seen = world.effects > 0
    yield from _try(
        world, f"resolved as {'done' if seen else 'not done'}", lambda w: m.resolve(w, executed=seen)
    )
    if variant.retry and world.approval.state == "in_doubt" and not seen:
        yield "approved again", _became(world, msgspec.structs.replace(world.approval, state="approved"))


def _time(world: World, variant: Variant) -> Iterator[Step]:
    yield from _try(world, "time runs out", m.expire)
    yield from _try(world, "the window closes", m.give_up)
    if world.approval.state != "executing":
        return
    attempt = world.approval.attempt
    about_to_send = any(w.phase == "checked" and w.attempt == attempt for w in world.workers)
    if variant.bounded and about_to_send:
        return
    if variant.fence:
        workers = tuple(w._replace(revoked=True) if w.attempt == attempt else w for w in world.workers)
        world = world._replace(workers=workers)
    if variant.requeue:
        yield "the lease lapses", _became(world, msgspec.structs.replace(world.approval, state="approved"))
    else:
        yield from _try(world, "the lease lapses", lambda was: m.lapse(was, attempt))


def _work(world: World, worker: Worker, number: int, variant: Variant) -> Iterator[Step]:
    def now(after: Worker, **changed: object) -> World:
        workers = tuple(after if n == number else w for n, w in enumerate(world.workers))
        return world._replace(workers=workers, **changed)

    if worker.phase != "idle":
        yield "crashes", now(Worker())
    if worker.phase == "idle" and world.approval.state in ("approved", "recovering"):
        if world.allows:
            yield "reads it", now(Worker("read", world.version, 0, world.epoch))
        else:
            yield from ((f"sees policy say no: {e}", w) for e, w in _try(world, "drift", m.drift))
    elif worker.phase == "read":
        yield from _claim(world, worker, now, variant)
    elif worker.phase == "claimed":
        fits = world.approval.state == "executing" and world.approval.attempt == worker.attempt
        if fits:
            yield "checks", now(worker._replace(phase="checked"))
        else:
            yield from _report(world, worker, now, "unsent", variant)
    elif worker.phase == "checked":
        yield from _report(world, worker, now, "unsent", variant)  # the upstream cannot be reached
        if worker.revoked:
            return  # the upstream would refuse it: as if it were not sent
        happened = 1 if variant.upstream_dedups else world.effects + 1
        yield "sends", now(worker._replace(phase="sent"), effects=happened)
        yield "sends into the void", now(worker._replace(phase="lost"))
    elif worker.phase == "sent":
        yield from _report(world, worker, now, "executed", variant)
        yield from _report(world, worker, now, "in_doubt", variant)
    elif worker.phase == "lost":
        yield from _report(world, worker, now, "in_doubt", variant)


def _claim(world: World, worker: Worker, now: Callable[..., World], variant: Variant) -> Iterator[Step]:
    if variant.compare and worker.version != world.version:
        yield "is too late to claim", now(Worker())
        return
    if variant.epoch and worker.epoch != world.epoch:
        yield "must decide again", now(Worker())
        return
    was = world.approval
    if not variant.compare and was.state == "executing":  # what it read is all it knows
        was = msgspec.structs.replace(was, state="approved")
    try:
        claimed = m.claim(was)
    except m.Illegal:
        yield "cannot claim", now(Worker())
        return
    after = now(Worker("claimed", world.version, claimed.attempt, worker.epoch))
    yield "claims", _became(after, claimed)._replace(denied_claim=world.denied_claim or not world.allows)


def _report(
    world: World, worker: Worker, now: Callable[..., World], became: m.Became, variant: Variant
) -> Iterator[Step]:
    if variant.timeout_fails and became == "in_doubt":
        became = "failed"
    after = now(Worker())
    yield f"reports {became}", _became(after, m.answered(world.approval, worker.attempt, became))


def _try(world: World, event: str, transition: Callable[[m.Machine], m.Machine]) -> Iterator[Step]:
    try:
        yield event, _became(world, transition(world.approval))
    except m.Illegal:
        return


def _became(world: World, after: m.Machine) -> World:
    if after == world.approval:
        return world
    returned = world.returned or (world.approval.attempt > 0 and after.state in m.UNCLAIMED)
    said_no = world.approval.attempt > 0 and after.state in ("rejected", "expired", "cancelled", "superseded")
    # Beyond this the version says nothing new: it only has to differ.
    return world._replace(approval=after, version=world.version + 1, returned=returned or said_no)


def _history(came: dict[World, tuple[World | None, str]], world: World) -> list[str]:
    events: list[str] = []
    at: World | None = world
    while at is not None:
        at, event = came[at]
        events.append(event)
    return events[-2::-1]


def main() -> int:
    bad = 0
    for title, variants, wanted in (("As it is", GOOD, False), ("Known to be wrong", BAD, True)):
        print(f"{title}:")
        for name, variant in variants.items():
            started = time.perf_counter()
            found = explore(variant)
            taken = time.perf_counter() - started
            fine = bool(found.violations) is wanted
            bad += not fine
            said = f"{found.states} states, {len(found.violations)} kinds of violation, {taken:.1f} s"
            print(f"  {'ok ' if fine else 'BAD'} {name}: {said}")
            for what, history in found.violations.items():
                print(f"        {what}\n          {' → '.join(history)}")
    print("All as expected." if not bad else f"{bad} variants are not as expected.")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
