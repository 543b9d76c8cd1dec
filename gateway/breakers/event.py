"""What detectors are told of one call: small, without text of the call, the same in every process."""

from __future__ import annotations

from typing import Final, Literal
from zlib import crc32

import msgspec

What = Literal["ok", "error", "denied"]

_SAMPLED: Final = 4096
_MOST: Final = 1 << 40


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call that was carried out or refused. Prints are numbers that are equal for equal content.

    What says nothing about the agent never becomes an event: an answer that waits for a person, one that is
    ``unavailable`` or asks to slow down, one that repeats an earlier answer.
    """

    call_id: str
    at_ns: int
    tenant: str
    agent: str
    session: str
    tool: str  # "upstream/name"
    what: What
    thread: str = (
        ""  # the client's own thread of work, when it is not the session: loops are looked for in it
    )
    domain: str = "general"
    upstream: str = ""
    tree: str = ""  # root of the delegation; "" for none
    depth: int = 0  # of the delegation
    args: int = 0
    result: int = 0  # 0 when there is none
    writes: bool = False
    irreversible: bool = False
    polling: bool = False  # its manifest says that repeating it is normal
    bytes_out: int = 0  # what left through a tool that writes or sends
    cost: int = 0  # micro-USD
    places: tuple[int, ...] = ()  # prints of hosts and recipients the call names
    resource: int = 0  # what a write changes; 0 when nobody can tell
    tainted: bool = False  # the session has read untrusted content


class Alarm(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One detector's opinion. ``level`` 1 asks for a cheap first response, 2 to stop."""

    detector: str
    level: Literal[1, 2]
    statistic: float
    threshold: float
    since_ns: int  # of the first event that contributed
    sentence: str
    person: bool = False  # only a person may reset what this trips
    exact: bool = True  # deterministic: what it says is so, it is not estimated


def print_of(content: bytes) -> int:
    """A 64-bit print of content, from its ends and its length, so that a large result costs little.

    Not a hash that withstands an adversary: an agent can fool nobody but its own loop detectors, which it
    could do as well by changing a comma.
    """
    size = len(content)
    if size <= 2 * _SAMPLED:
        return (crc32(content) << 32 | size & 0xFFFFFFFF) or 1
    ends = crc32(content[-_SAMPLED:], crc32(content[:_SAMPLED]))
    return ends << 32 | size & 0xFFFFFFFF


def size_of(print_: int) -> int:
    """Bytes of the content a print was made of."""
    return print_ & 0xFFFFFFFF


def bounded(amount: int) -> int:
    """An amount somebody else reports, without values that would break sums."""
    return min(max(amount, 0), _MOST)
