"""Killed between every two statements of claim, send and settle, and what is on record afterwards.

    make crash-approvals                  # 2,400 seeded runs
    python -m tests.approvals.crash --runs 200 --seed 7

Each run is one approval in a real store. It is decided by votes that come twice, late, in another order, for
other bytes or from people who may not; half of them as signed callbacks, with forged, replayed and old ones
among them; in some runs a process of its own votes at the same time. Two workers in processes of their own
claim it, send it to an upstream (another process, which counts effects and never forgets) and settle; and
somebody changes the clock, raises the control epoch, edits and cancels meanwhile. The first worker is killed
with SIGKILL at the point that the run's number says: before or after a statement, a commit, the send, the
answer. Then leases lapse, a worker tries again, and a person says of what is in doubt what they see at the
upstream.

Wrong is: two effects of one effect key, a record that denies an effect that happened, or a forged callback
that was taken. Processes are
forked from a warm one, so a run takes some ten milliseconds.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import mmap
import os
import random
import signal
import socket
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, event, insert, text

from gateway.approvals import claim as claims
from gateway.approvals import fatigue, machine
from gateway.approvals.chain import Threshold, Who
from gateway.approvals.claim import Claim
from gateway.approvals.notify import IN, OUT, Hook, sign
from gateway.approvals.store import Store
from gateway.approvals.sweeper import Sweeper
from gateway.approvals.values import Approval, Blocked, Expected, Reviewer
from gateway.callbacks import Callbacks
from gateway.errors import Refused, Unauthenticated
from gateway.storage import control
from gateway.storage.tables import records
from tests.approvals.support import one_stage, opening, people, reviewer, seen, store_at

POINTS: Final = 48
"""More than a worker passes on its way, so that some are not killed at all."""

BATCH: Final = 200
SEND_S: Final = 5.0
TIRELESS: Final = fatigue.Settings(per_hour=10**6)
HOOK: Final = Hook(
    name="chat", url="https://bot.example.com", secret=b"a secret of a chat, long enough for it",
    key_id="1",
    actors={f"U-{name}": name for name in ("bob", "cat", "dan", "ann", "alice", "vic", "mallory")},
)  # fmt: skip
ANSWERS: Final = ("ok", "ok", "ok", "answer lost", "request lost", "refused", "unreachable")


class Clocks:
    """Both clocks of all processes of a run, in memory they share."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 16)
        self.monotonic, self.wall_ns = 0.0, 1_800_000_000 * 10**9

    def _get(self) -> tuple[float, int]:
        return struct.unpack("dq", self._shared[:])  # type: ignore[return-value]

    @property
    def monotonic(self) -> float:
        return self._get()[0]

    @monotonic.setter
    def monotonic(self, value: float) -> None:
        self._shared[:] = struct.pack("dq", value, self._get()[1])

    @property
    def wall_ns(self) -> int:
        return self._get()[1]

    @wall_ns.setter
    def wall_ns(self, value: int) -> None:
        self._shared[:] = struct.pack("dq", self._get()[0], value)

    def now(self, _connection: object) -> int:
        return self.wall_ns


class Points:
    """The moments at which a worker can die. The one whose number comes up is its last."""

    def __init__(self, last: int) -> None:
        self.left = last
        self.passed = 0

    def __call__(self, *_: object) -> None:
        self.passed += 1
        if self.passed == self.left:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, store: Store) -> None:
        engine = _engine(store)
        for name in ("before_cursor_execute", "after_cursor_execute", "begin", "commit"):
            event.listen(engine, name, lambda *_: self())


# ------------------------------------------------------------------------------------------- the upstream


class Upstream:
    """A process that counts. It writes an effect down before it answers, as a bank would."""

    def __init__(self, folder: Path) -> None:
        self.effects = folder / "effects"
        self.effects.touch()
        self._address = str(folder / "upstream")
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(self._address)
        listening.listen(64)
        self._process = os.fork()
        if self._process == 0:
            self._serve(listening)
        listening.close()

    def count(self, key: str) -> int:
        return Counter(self.effects.read_text().splitlines())[key]

    def send(self, key: str, how: str) -> machine.Became:
        """What a worker learns of its call."""
        if how == "unreachable":
            return "unsent"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(self._address)
            connection.sendall(f"{key} {how}\n".encode())
            answer = connection.recv(64)
        return {b"done": "executed", b"refused": "failed"}.get(answer, "in_doubt")  # type: ignore[return-value]

    def close(self) -> None:
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)

    def _serve(self, listening: socket.socket) -> None:
        with self.effects.open("a", buffering=1) as book:
            while True:
                connection, _ = listening.accept()
                with connection:
                    line = connection.makefile().readline()
                    if not line.endswith("\n"):
                        continue  # its sender died before it was handed over
                    key, _, how = line.strip().partition(" ")
                    if how == "refused":
                        self._answer(connection, b"refused")
                    elif how != "request lost":
                        book.write(f"{key}\n")
                        if how != "answer lost":
                            self._answer(connection, b"done")

    @staticmethod
    def _answer(connection: socket.socket, what: bytes) -> None:
        try:
            connection.sendall(what)
        except OSError:  # who asked is dead
            return


# --------------------------------------------------------------------------------------------- the workers


def work(
    store: Store, clocks: Clocks, upstream: Upstream, approval: Approval, rng: random.Random, point: Points,
    pause: Callable[[], None],
) -> None:  # fmt: skip
    """What the gateway does with one identical call of the agent."""
    ticket = store.ticket(approval.id)
    if ticket is None:
        return
    call_id = f"call-{os.getpid()}-{approval.id}"
    start = clocks.monotonic
    wanted = Claim(
        ticket=ticket, call_id=call_id, digest=ticket.approval.digest, policy_revision="r1",
        decided_at=start, send_by=start + SEND_S,
    )  # fmt: skip
    try:
        with store.database.writing() as connection:
            claims.claim(
                store, connection, wanted, monotonic=clocks.monotonic, policy_revision="r1", send_s=SEND_S
            )
            connection.execute(
                insert(records).values(
                    call_id=call_id, phase="intent", at_ns=1, tenant="default", digest=ticket.approval.digest,
                    effect_key=approval.effect_key,
                )
            )  # fmt: skip
    except Blocked:
        return
    point()
    pause()
    became: machine.Became = "unsent"
    if claims.may_send(store, wanted, monotonic=clocks.monotonic):
        point()
        became = upstream.send(approval.effect_key, rng.choice(ANSWERS))
    point()
    with store.database.writing() as connection:
        connection.execute(
            insert(records).values(
                call_id=call_id, phase="result", at_ns=2, tenant="default", status=became,
                effect_key=approval.effect_key,
            )
        )  # fmt: skip
        claims.settle(store, connection, approval.id, ticket.attempt, call_id, became)
    point()


def worker(
    store: Store, clocks: Clocks, upstream: Upstream, approval: Approval, seed: int, last: int,
    pause: Callable[[], None] = lambda: None,
) -> int:  # fmt: skip
    # No connection may be open while a process is forked; what SQLAlchemy has compiled may well be shared.
    _engine(store).dispose()
    child = os.fork()
    if child:
        return child
    code = 0
    try:
        point = Points(last)
        point.watch(store)
        work(store, clocks, upstream, approval, random.Random(seed), point, pause)
    except BaseException as error:  # a worker that fails otherwise than by being killed is a fault of ours
        print(f"worker: {type(error).__name__}: {error}", file=sys.stderr)
        code = 1
    os._exit(code)


def _engine(store: Store) -> Engine:
    engine = store.database._engine
    assert engine is not None
    return engine


def ended(child: int) -> bool:
    """Wait for a worker; whether it was killed."""
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError("a worker failed")
    return os.WIFSIGNALED(status)


# ------------------------------------------------------------------------------------------------- one run


class Tally:
    """``sabotage`` makes a lapsed attempt claimable as if nothing had happened: it must be found out."""

    def __init__(self, sabotage: bool = False) -> None:
        self.sabotage = sabotage
        self.runs = self.killed = self.effects = self.double = self.denials = self.refused_votes = 0
        self.callbacks: Counter[str] = Counter()
        self.jumps = 0
        self.wrongly = 0
        self.taken = 0  # callbacks that were forged or replayed, and accepted all the same
        self.states: Counter[str] = Counter()
        self.failures: list[str] = []


def run(store: Store, clocks: Clocks, upstream: Upstream, number: int, seed: int, tally: Tally) -> None:
    rng = random.Random(seed)
    chain = one_stage(Threshold(who=Who(roles=("approver",)), approve=rng.choice((1, 2))))
    key = f"effect-{seed}-{number}"
    approval = store.open(
        opening(
            chain, asked_digest=key, digest=key, effect_key=key, idempotent=False, owner="team-a",
            subject=rng.choice((None, "corp:ann")),
        )
    ).approval  # fmt: skip
    # Somebody else decides in another process at the same time.
    elsewhere = rng.random() < 0.2 and decider(store, clocks, approval, seed)
    votes(store, clocks, approval, rng, tally)
    if elsewhere:
        ended(elsewhere)
    jump = rng.choice((0, 0, 0, 0, 100, 200, 1_000, -3_600, -400))
    tally.jumps += jump != 0
    clocks.wall_ns += jump * 10**9
    sweeper = Sweeper(store, lambda: clocks.monotonic)
    sweeper.sweep()
    # A pause between the claim and the last look, of the second worker: it wakes up after its lease.
    paused, resume = os.pipe()
    late = rng.random() < 0.3

    def pause() -> None:
        if late:
            os.read(paused, 1)

    first = worker(store, clocks, upstream, approval, seed, number % POINTS + 1)
    second = worker(store, clocks, upstream, approval, seed + 1, 0, pause)
    meddle(store, approval, rng)
    tally.killed += ended(first)
    if late:
        lapse(store, clocks, sweeper, tally)
        resolve(store, approval, upstream, rng)
        os.write(resume, b"x")
    ended(second)
    os.close(paused)
    os.close(resume)
    meddle(store, approval, rng)
    for attempt in range(3):  # the agent calls again
        lapse(store, clocks, sweeper, tally)
        resolve(store, approval, upstream, rng)
        if rng.random() < 0.7:
            last = rng.randint(1, POINTS) if attempt < 2 else 0
            tally.killed += ended(worker(store, clocks, upstream, approval, seed + 2 + attempt, last))
    lapse(store, clocks, sweeper, tally)
    clocks.wall_ns += 86_400 * 10**9
    sweeper.sweep()
    resolve(store, approval, upstream, random.Random(0))
    judge(store, approval, upstream, key, seed, number, tally)


def votes(store: Store, clocks: Clocks, approval: Approval, rng: random.Random, tally: Tally) -> None:
    """Votes as they arrive: twice, in another order, for other bytes, and of people who may not."""
    said = [("bob", "approve"), ("cat", "approve")]
    said += rng.sample(
        [
            ("bob", "approve"), ("bob", "reject"), ("cat", "approve"), ("alice", "approve"),
            ("dan", "reject"),
            ("mallory", "approve"), ("vic", "approve"), ("ann", "approve"), ("ann", "approve"),
        ],
        rng.choice((0, 0, 1, 2, 4)),
    )  # fmt: skip
    rng.shuffle(said)
    callbacks = Callbacks(store, lambda name: HOOK if name == HOOK.name else None)
    for name, decision in said:
        full = store.show(approval.id, "default")
        assert full is not None
        expected = seen(full.approval)
        if rng.random() < 0.2:
            expected = Expected(version=expected.version, digest="0" * 64)
        if rng.random() < 0.5:
            passed_on(store, clocks, callbacks, approval, name, decision, expected, rng, tally)
            continue
        try:
            store.vote(approval.id, reviewer(name), decision, expected, reason_code="other")  # type: ignore[arg-type]
        except Blocked:
            tally.refused_votes += 1


def passed_on(
    store: Store, clocks: Clocks, callbacks: Callbacks, approval: Approval, name: str, decision: str,
    expected: Expected, rng: random.Random, tally: Tally,
) -> None:  # fmt: skip
    """A vote as a chat passes it on, with what an attacker on the way would make of it, in any order."""
    body = {
        "approval": approval.id, "version": expected.version, "digest": expected.digest,
        "actor": f"U-{name}", "decision": decision, "reason_code": "other",
    }  # fmt: skip
    raw, now_s = json.dumps(body).encode(), clocks.wall_ns // 10**9
    genuine = (HOOK.key_id, str(now_s), sign(HOOK.secret, now_s, raw, IN), raw)
    other = json.dumps({**body, "decision": "approve", "actor": "U-bob"}).encode()
    forged = [
        (HOOK.key_id, str(now_s), sign(b"guessed" * 5, now_s, other, IN), other),
        (HOOK.key_id, str(now_s), genuine[2], other + b" "),  # a good signature of other bytes
        (HOOK.key_id, str(now_s), sign(HOOK.secret, now_s, other, OUT), other),  # a delivery sent back
        (HOOK.key_id, str(now_s - 301), sign(HOOK.secret, now_s - 301, other, IN), other),
        ("2", str(now_s), sign(HOOK.secret, now_s, other, IN), other),
    ]
    again = (HOOK.key_id, str(now_s + 1), sign(HOOK.secret, now_s + 1, raw, IN), raw)  # signed anew
    deliveries = [("genuine", genuine), ("forged", rng.choice(forged)), ("again", again)]
    rng.shuffle(deliveries)
    deliveries.append(("replayed", genuine))
    for kind, delivery in deliveries:
        tally.callbacks[kind] += 1
        try:
            operator, told = callbacks.take(HOOK.name, *delivery, float(now_s))
        except (Unauthenticated, Refused):
            continue
        if kind in ("forged", "replayed"):
            tally.taken += 1
        by = Reviewer(
            name=operator.name, tenant="default", role=operator.role, credential=operator.credential
        )
        what = Expected(version=told.version, digest=told.digest)
        try:
            store.vote(approval.id, by, told.decision, what, reason_code=told.reason_code)
        except Blocked:
            tally.refused_votes += 1


def decider(store: Store, clocks: Clocks, approval: Approval, seed: int) -> int:
    """A process of its own that votes on the same approval meanwhile."""
    _engine(store).dispose()
    child = os.fork()
    if child:
        return child
    code = 0
    try:
        votes(store, clocks, approval, random.Random(seed + 77), Tally())
    except BaseException as error:
        print(f"decider: {type(error).__name__}: {error}", file=sys.stderr)
        code = 1
    os._exit(code)


def meddle(store: Store, approval: Approval, rng: random.Random) -> None:
    """What others do at the same time."""
    what = rng.random()
    full = store.show(approval.id, "default")
    assert full is not None
    try:
        if what < 0.1:
            store.cancel(approval.id, reviewer("cat"), seen(full.approval))
        elif what < 0.2:
            with store.database.writing() as connection:
                control.bump(connection, control.CONTROL)
        elif what < 0.25:
            wanted = opening(
                asked_digest=approval.asked_digest, digest=approval.digest + "'",
                effect_key=approval.effect_key, editors=("bob",),
            )  # fmt: skip
            store.edit(approval.id, reviewer("bob"), seen(full.approval), wanted)
        elif what < 0.3:
            store.drifted(approval.id, "no_rule_allows")
    except Blocked:
        return


def lapse(store: Store, clocks: Clocks, sweeper: Sweeper, tally: Tally) -> None:
    sweeper.sweep()
    if tally.sabotage:
        with store.database.writing() as connection:
            connection.execute(text("UPDATE approvals SET state = 'approved' WHERE state = 'executing'"))
    clocks.monotonic += 100
    sweeper.sweep()


def resolve(store: Store, approval: Approval, upstream: Upstream, rng: random.Random) -> None:
    """A person looks at the upstream, and says what they see."""
    full = store.show(approval.id, "default")
    assert full is not None
    if full.approval.state == "in_doubt" and rng.random() < 0.8:
        executed = upstream.count(approval.effect_key) > 0
        store.resolve(approval.id, reviewer("cat"), seen(full.approval), executed=executed, note="")


def judge(
    store: Store, approval: Approval, upstream: Upstream, key: str, seed: int, number: int, tally: Tally
) -> None:
    effects = upstream.count(key)
    full = store.show(approval.id, "default")
    assert full is not None
    state = full.approval.state
    tally.runs += 1
    tally.effects += effects
    tally.states[state] += 1
    tally.double += effects > 1
    denied = effects > 0 and state in machine.DENIES
    tally.denials += denied
    unproven = effects == 0 and state == "executed"
    if tally.taken:
        tally.failures.append(f"seed {seed} run {number}: {tally.taken} callbacks were taken")
        tally.wrongly += tally.taken
        tally.taken = 0
    if effects > 1 or denied or unproven:
        tally.failures.append(f"seed {seed} run {number}: {effects} effects, recorded as {state}")


# -------------------------------------------------------------------------------------------------- all runs


def crash(runs: int, seed: int, *, told: Callable[[str], None] = print, sabotage: bool = False) -> Tally:
    tally = Tally(sabotage)
    started = time.monotonic()
    while tally.runs < runs:
        # SIGKILL takes nothing from the page cache, so memory serves as well as a disk.
        memory = Path("/dev/shm")
        where = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
        with tempfile.TemporaryDirectory(prefix="wardgate-crash-", dir=where) as folder:
            here = Path(folder)
            clocks = Clocks()
            upstream = Upstream(here)
            store = store_at(here / "w.db", fatigue=TIRELESS)
            store.now = clocks.now
            people(store.database, "bob", "cat", "dan", "ann", "alice", "vic:viewer")
            try:
                for _ in range(min(BATCH, runs - tally.runs)):
                    number = tally.runs
                    run(store, clocks, upstream, number, seed * 1_000_003 + number, tally)
            finally:
                store.database.close()
                upstream.close()
        told(f"{tally.runs} runs, {tally.killed} killed, {time.monotonic() - started:.0f} s")
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    started = time.monotonic()
    logging.getLogger("wardgate").setLevel(logging.CRITICAL)  # what is refused here is refused on purpose
    gc.freeze()  # what is not collected is not copied in the workers
    tally = crash(asked.runs, asked.seed)
    found = {
        "runs": tally.runs,
        "seed": asked.seed,
        "kill_points": POINTS,
        "workers_killed": tally.killed,
        "effects": tally.effects,
        "double_effects": tally.double,
        "false_denials": tally.denials,
        "votes_refused": tally.refused_votes,
        "callbacks": dict(sorted(tally.callbacks.items())),
        "callbacks_wrongly_taken": tally.wrongly,
        "clock_jumps": tally.jumps,
        "states": dict(sorted(tally.states.items())),
        "failures": tally.failures,
        "seconds": round(time.monotonic() - started, 1),
    }
    target = Path("build/approvals.json")
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
