"""Calls that go round in circles: the same again, another question with the same answer, cycles of 2 to 4."""

from __future__ import annotations

from typing import Final
from zlib import crc32

import msgspec

from gateway.breakers.event import Alarm, Event, size_of
from gateway.breakers.settings import Settings

_MASK: Final = (1 << 63) - 1
_ARGS: Final = 0x9E3779B97F4A7C15  # odd numbers without a pattern, so that three prints mix into one
_RESULT: Final = 0xC2B2AE3D27D4EB4F
_PATIENT: Final = 10_000
_TOOLS: Final = 16


class Loops(msgspec.Struct, array_like=True):
    """Four small counters over the last calls of one thread of work.

    An answer that moves on is progress, so what repeats is (tool, arguments, result). Exceptions: the same
    call in a row far too often is slowed down whatever comes back (a clock in it hides the loop); a write
    that answers "ok" each time is not without progress; and a short answer is what many honest questions have
    in common ("no match"), so a long row of it only slows down. How long is long for a tool is learned: where
    another answer came in the end, it was worth while to go on asking (``patience``).
    """

    last: list[int] = msgspec.field(default_factory=list)  # prints of (tool, arguments, result), a ring
    at: int = 0
    same: int = 0  # in a row, with the same result
    asked: int = 0  # in a row, whatever the result
    question: int = 0
    answers: int = 0  # in a row, of one tool, the same answer to other arguments
    answer: int = 0
    question_before: int = 0
    rounds: list[int] = msgspec.field(default_factory=lambda: [0, 0, 0])  # for cycles of 2, 3 and 4
    since_ns: int = 0
    tool: int = 0  # whose answers are counted
    answers_ns: int = 0

    def observe(self, event: Event, settings: Settings, patience: dict[int, int]) -> list[Alarm]:
        """``patience``: of the agent, by tool, how many short answers in a row are nothing unusual."""
        if event.polling:
            return []
        at_ns = event.at_ns
        name = _of(event.tool)
        question = (name + event.args * _ARGS) & _MASK
        mark = (question + event.result * _RESULT) & _MASK
        ring, size = self.last, settings.repeat_in
        before = ring[(self.at - 1) % size] if ring else 0
        found: list[Alarm] = []

        # -- the same in a row ---------------------------------------------------------------
        if mark == before:
            self.same += 1
        else:
            self.same, self.since_ns = 1, at_ns
        self.asked = self.asked + 1 if question == self.question else 1
        self.question = question
        full = len(ring) == size
        count = (
            ring.count(mark) + 1 - (full and ring[self.at % size] == mark)
        )  # of these 20, this one among them
        if self.same == settings.repeat:
            found.append(
                _alarm("repeat", 2, self.same, settings.repeat, self.since_ns,
                       f"the same call {self.same} times in a row, with the same result")
            )  # fmt: skip
        elif count == settings.repeat_of and self.same < settings.repeat:
            found.append(
                _alarm("repeat", 2, count, settings.repeat_of, self.since_ns,
                       f"the same call {count} times within {size} calls, with the same result")
            )  # fmt: skip
        elif self.asked == settings.repeat_any:
            found.append(
                _alarm("repeat", 1, self.asked, settings.repeat_any, self.since_ns,
                       f"the same call {self.asked} times in a row")
            )  # fmt: skip

        # -- another question, the same answer -----------------------------------------------
        answer = (name + event.result * _RESULT) & _MASK
        if event.result == 0 or (event.writes and event.what == "ok"):
            self.answers, self.answer = 0, 0
        elif answer == self.answer:
            if question != self.question_before:
                self.answers += 1
                found += self._no_progress(event, settings, patience.get(name, settings.no_progress_short))
        else:
            # Asking on has paid in the end: such a row is usual for this tool from now on.
            usual = patience.get(name, settings.no_progress_short)
            if (
                name == self.tool
                and 2 * self.answers >= usual
                and (name in patience or len(patience) < _TOOLS)
            ):
                patience[name] = min(4 * self.answers, _PATIENT)
            self.answers, self.answer, self.tool, self.answers_ns = 1, answer, name, at_ns
        self.question_before = question

        # -- cycles --------------------------------------------------------------------------
        if self.same == 1:
            rounds = self.rounds
            for period in (2, 3, 4):
                if len(ring) >= period and ring[(self.at - period) % size] == mark:
                    rounds[period - 2] += 1
                    needed = period * (settings.cycle - 1)
                    if rounds[period - 2] == needed:
                        found.append(
                            _alarm("cycle", 2, settings.cycle, settings.cycle, self.since_ns,
                                   f"the same {period} calls in the same order {settings.cycle} times")
                        )  # fmt: skip
                else:
                    rounds[period - 2] = 0
        else:
            self.rounds = [0, 0, 0]

        if full:
            ring[self.at % size] = mark
        else:
            ring.append(mark)
        self.at += 1
        return found

    def _no_progress(self, event: Event, settings: Settings, most: int) -> list[Alarm]:
        count = self.answers
        words = f"the same answer to {count} different calls of one tool in a row"
        if size_of(event.result) > settings.short_bytes:
            if count != settings.no_progress:
                return []
            return [_alarm("no_progress", 2, count, settings.no_progress, self.answers_ns, words)]
        # Said again at twice, four times as many …: it may go on for ever.
        times, rest = divmod(count, most)
        if rest or times & (times - 1):
            return []
        return [_alarm("no_progress", 1, count, most, self.answers_ns, words)]

    def clear(self) -> None:
        self.last, self.at, self.same, self.asked, self.answers = [], 0, 0, 0, 0
        self.rounds = [0, 0, 0]


def _of(name: str) -> int:
    return crc32(name.encode()) << 31


def _alarm(detector: str, level: int, value: int, threshold: int, since_ns: int, sentence: str) -> Alarm:
    return Alarm(
        detector=detector,
        level=2 if level == 2 else 1,
        statistic=float(value),
        threshold=float(threshold),
        since_ns=since_ns,
        sentence=sentence,
    )
