"""Two actors who undo each other: one resource that goes A, B, A, B."""

from __future__ import annotations

import msgspec

from gateway.breakers.event import Alarm, Event
from gateway.breakers.settings import Settings


class Returns(msgspec.Struct, array_like=True):
    """The last eight states of one resource, as prints of the arguments that made them, with who made
    each.

    An agent answers for what it put back itself: who only waits for others to change something, to change it
    again, cannot have them stopped before they have done so as often.
    """

    states: list[tuple[int, str]] = msgspec.field(default_factory=list)
    counts: dict[str, int] = msgspec.field(default_factory=dict)  # by agent
    since_ns: int = 0

    def observe(self, event: Event, settings: Settings) -> list[Alarm]:
        if event.what != "ok" or not event.writes:
            return []
        states = self.states
        if states and states[-1][0] == event.args:
            return []  # the same again: the repeat detector's
        # Somebody else changed it since it was last like this, and this one puts it back.
        earlier = next((i for i in range(len(states) - 1, -1, -1) if states[i][0] == event.args), None)
        returned = earlier is not None and any(actor != event.agent for _, actor in states[earlier + 1 :])
        states.append((event.args, event.agent))
        del states[:-8]
        if not returned:
            if earlier is None:
                self.counts = {}  # a state that is new: they get on
            return []
        if not self.counts:
            self.since_ns = event.at_ns
        count = self.counts[event.agent] = self.counts.get(event.agent, 0) + 1
        if count < settings.returns:
            return []
        self.counts = {}
        return [
            Alarm(
                detector="return", level=2, statistic=float(count), threshold=float(settings.returns),
                since_ns=self.since_ns,
                sentence=f"{event.tool} was put back to an earlier state {count} times, each time after "
                "another agent had changed it",
            )
        ]  # fmt: skip
