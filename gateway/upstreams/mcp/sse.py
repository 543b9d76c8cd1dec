"""Server-sent events, read from chunks that may be cut anywhere (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

from typing import Final

from gateway.errors import UpstreamError

RETRY_S: Final = 1.0
"""Before a lost stream is asked for again, when the server does not say; in seconds."""

_PREFIX_BYTES: Final = 1024


class EventTooLarge(UpstreamError):
    """One event is larger than ``max_bytes``; ``beginning`` is how it starts."""

    def __init__(self, beginning: bytes, max_bytes: int) -> None:
        super().__init__("result_too_large", f"an event of more than {max_bytes} bytes")
        self.beginning = beginning


class EventReader:
    """Turns chunks into the ``data`` of events that have some; keeps the last ``id`` and ``retry``."""

    __slots__ = ("_data", "_line", "_max", "_size", "_skip_lf", "_started", "last_id", "retry_s")

    def __init__(self, max_bytes: int, last_id: bytes = b"") -> None:
        self._max = max_bytes
        self._line = bytearray()  # the line that is not complete yet
        self._data: list[bytes] = []  # data lines of the event that is not complete yet
        self._size = 0
        self._skip_lf = False  # the last chunk ended with CR; an LF right after it belongs to it
        self._started = False
        self.last_id = last_id  # where a client that lost the stream goes on; "" for nowhere
        self.retry_s = RETRY_S  # after how long it may come back

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of each event that ``chunk`` completes, in order; may raise ``EventTooLarge``."""
        if self._skip_lf and chunk:
            self._skip_lf = False
            chunk = chunk.removeprefix(b"\n")
        events: list[bytes] = []
        if b"\r" in chunk:
            self._skip_lf = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *complete, rest = chunk.split(b"\n")
        for part in complete:
            line = part
            if self._line:
                self._line += part
                line = bytes(self._line)
                self._line.clear()
            self._take(line, events)
        self._line += rest
        if self._size + len(self._line) > self._max:
            raise EventTooLarge((b"".join(self._data) + self._line)[:_PREFIX_BYTES], self._max)
        return events

    def _take(self, line: bytes, events: list[bytes]) -> None:
        if not self._started:
            self._started = True
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            if self._data:
                # A server that keeps streams for resumption opens each with an id and empty data: no message.
                if data := self._data[0] if len(self._data) == 1 else b"\n".join(self._data):
                    events.append(data)
                self._data.clear()
                self._size = 0
            return
        field, _, value = line.partition(b":")
        if field == b"data":
            value = value.removeprefix(b" ")
            self._size += len(value) + 1
            if self._size > self._max:
                raise EventTooLarge((b"".join(self._data) + value)[:_PREFIX_BYTES], self._max)
            self._data.append(value)
        elif field == b"id" and b"\0" not in value:
            self.last_id = value.removeprefix(b" ")
        elif field == b"retry" and (digits := value.strip()).isdigit() and len(digits) < 9:
            self.retry_s = int(digits) / 1000
