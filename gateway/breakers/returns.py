"""Two actors who undo each other: one resource that goes A, B, A, B."""

from __future__ import annotations

import msgspec

from gateway.breakers.event import Alarm, Event
from gateway.breakers.settings import Settings


class Returns(msgspec.Struct, array_like=True):
    """The last eight states of one resource, as prints of the arguments that made them, with who made
    each."""

    states: list[tuple[int, str]] = msgspec.field(default_factory=list)
    count: int = 0
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
                self.count = 0
            return []
        if self.count == 0:
            self.since_ns = event.at_ns
        self.count += 1
        if self.count < settings.returns:
            return []
        count, self.count = self.count, 0
        return [
            Alarm(
                detector="return", level=2, statistic=float(count), threshold=float(settings.returns),
                since_ns=self.since_ns,
                sentence=f"{event.tool} was put back to an earlier state {count} times, each time after "
                "another agent had changed it",
            )
        ]  # fmt: skip
