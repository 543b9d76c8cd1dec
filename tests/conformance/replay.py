"""What was sent on the streams of legacy sessions, for clients that come back with ``Last-Event-ID``."""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import Final

from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp_types import JSONRPCMessage

_KEPT: Final = 1000  # events of all streams together; the oldest go first


class Replay(EventStore):
    def __init__(self) -> None:
        self._events: deque[tuple[int, str, JSONRPCMessage | None]] = deque(maxlen=_KEPT)
        self._numbers = count(1)

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        number = next(self._numbers)
        self._events.append((number, stream_id, message))
        return str(number)

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        seen = int(last_event_id) if last_event_id.isdecimal() else 0
        stream = next((stream for number, stream, _ in self._events if number == seen), None)
        if stream is None:
            return None
        for number, of, message in list(self._events):
            if of == stream and number > seen and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream
