"""A candidate asked about live calls beside the policy that decides, and where it says something else.

A caller never waits for it: the event loop only puts the call into a bounded queue, a thread of its own hands
batches to a process of its own (``worker.py``), and what does not fit is dropped and counted. Whatever
becomes of the candidate (a crash, a loop, nonsense) ends the trial and nothing else.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

from gateway.model import Call, Decision, Facts
from gateway.policy.archive import BadBundle
from gateway.policy.trial import Trial
from gateway.policy.worker import Load, Said, said
from gateway.ports import Policy

logger = logging.getLogger("wardgate.policy")

Change = Literal["same", "tightened", "loosened", "changed", "error"]
RESULTS: Final = ("same", "tightened", "loosened", "changed", "error", "dropped")

QUEUE: Final = 2048
BATCH: Final = 64
PAUSE_S: Final = 0.05
FAULTS: Final = frozenset(
    {"policy_error", "policy_undefined", "policy_bad_shape", "undeclared_code", "obligation_conflict"}
)
_RANK: Final[Mapping[str, int]] = {"allow": 0, "escalate": 1, "deny": 2}


class Compared(NamedTuple):
    """One call that both policies have decided."""

    at_ns: int
    call: Call
    change: Change
    active: Said
    active_revision: str
    candidate: Said

    @property
    def rule(self) -> str:
        """The module the difference is owed to: of the stricter side, because the other one is silence."""
        return self.active.rule if self.change == "loosened" else self.candidate.rule


def compare(active: Said, candidate: Said, *, duties: bool = True) -> Change:
    """How a call would have fared under the candidate; obligations count where both are known."""
    if candidate.code in FAULTS and active.code not in FAULTS:
        return "error"
    was, now = _RANK[active.verdict], _RANK[candidate.verdict]
    if was != now:
        return "tightened" if now > was else "loosened"
    same = active.codes == candidate.codes and (not duties or active.duties == candidate.duties)
    return "same" if same else "changed"


Report = Callable[[list[Compared]], None]


class Shadow:
    """One trial. ``offer`` is called on the event loop, everything else happens elsewhere."""

    def __init__(self, load: Load, *, percent: int, digest: str, report: Report) -> None:
        self.percent = percent
        self.digest = digest
        self.revision = ""
        self.failure = ""  # why the trial has ended
        self.counts: dict[str, int] = dict.fromkeys(RESULTS, 0)
        self._load = load
        self._report = report
        self._share = percent / 100
        self._waiting: deque[tuple[int, Call, Facts, Decision]] = deque()
        self._stop = threading.Event()
        self._trial: Trial | None = None
        self._thread = threading.Thread(target=self._run, name="policy shadow", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End the trial and wait for its thread. What was still to be tried is not."""
        self._stop.set()
        if self._trial is not None:
            self._trial.kill()
        self._thread.join(timeout=10)

    def offer(self, call: Call, facts: Facts, decision: Decision) -> None:
        """Maybe try this call. Costs the caller less than a microsecond, and never raises."""
        # A call that policy changed is decided a second time; it was one call.
        if call.modified_from or random.random() >= self._share:  # noqa: S311 - a sample, no secret
            return
        if len(self._waiting) >= QUEUE or self.failure:
            self.counts["dropped"] += 1
            return
        self._waiting.append((call.received_ns, call, facts, decision))

    def _run(self) -> None:
        try:
            with Trial() as trial:
                self._trial = trial
                examined, _ = trial.load(self._load)
                self.revision = examined.revision
                while not self._stop.wait(PAUSE_S):
                    while self._waiting and not self._stop.is_set():
                        self._batch(trial)
        except BadBundle as error:
            if not self._stop.is_set():  # else it was ended on purpose
                self.failure = str(error)
                logger.error("the candidate policy is no longer tried: %s", error)
        except Exception as error:  # a trial must end alone, whatever it dies of
            self.failure = f"{type(error).__name__}: {error}"
            logger.exception("the candidate policy is no longer tried")
        finally:
            self.counts["dropped"] += len(self._waiting)
            self._waiting.clear()

    def _batch(self, trial: Trial) -> None:
        taken = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        answers = trial.decide([(call, facts) for _, call, facts, _ in taken])
        compared = []
        for (at_ns, call, _, decision), candidate in zip(taken, answers, strict=True):
            active = said(decision)
            change = compare(active, candidate)
            compared.append(Compared(at_ns, call, change, active, decision.revision, candidate))
        if different := [each for each in compared if each.change != "same"]:
            self._report(different)
        for each in compared:  # when they are on record, so that what is counted can be looked at
            self.counts[each.change] += 1


class ShadowedPolicy:
    """Implements ``ports.Policy``: the active policy decides, and its decisions are offered to the trial."""

    def __init__(self, policy: Policy, shadow: Shadow) -> None:
        self._call = policy.call
        self._offer = shadow.offer
        self.revision = policy.revision
        self.wants_result = policy.wants_result
        self.result = policy.result
        self.visible = policy.visible
        self.sees = policy.sees
        self.modify = policy.modify

    async def call(self, call: Call, facts: Facts) -> Decision:
        decision = await self._call(call, facts)
        self._offer(call, facts, decision)
        return decision
