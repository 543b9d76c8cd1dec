"""Everything the gateway raises on purpose, drawn as a tree.

    WardgateError                 carries a code of ``reasons.py`` and a detail for operators
     ├─ ConfigError               configuration that must not start
     ├─ Refused                   a request refused before it became a call
     │   ├─ Unauthenticated       401
     │   ├─ BadMandate            every fault of a mandate, where it is and what would do
     │   └─ Overloaded            carries a retry hint
     ├─ PolicyError               the engine could not give a usable answer: a deny
     ├─ JournalError              the record could not be made durable: a deny
     ├─ StateError                the facts could not be read: a deny
     ├─ ApprovalError             an approval is not, or no longer, what an action on it needs
     └─ UpstreamError
         ├─ NotSent               proven: no byte of the call was handed to the transport
         │   └─ BadArguments      and why: they do not fit what the tool's description asks for
         └─ InDoubt               anything else: the effect may have happened

``detail`` is for operators (logs and records); what agents are told comes from the reason alone, so that
arguments, paths and secrets inside an exception can never reach them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.reasons import REASONS, Reason


class WardgateError(Exception):
    """Base of all; ``code`` must be one of ``reasons.REASONS``."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail

    @property
    def reason(self) -> Reason:
        return REASONS[self.code]


class ConfigError(Exception):
    """Configuration that must not start; the message names the key, the problem and the remedy."""


class Refused(WardgateError):
    """A request refused before it became a call: bad shape, unknown session, wrong host."""


class Unauthenticated(Refused):
    """No principal could be established. Never turned into a default identity.

    ``challenge`` is what the client is told in ``WWW-Authenticate``; "" leaves it to the surface.
    """

    def __init__(self, code: str, detail: str = "", challenge: str = "") -> None:
        super().__init__(code, detail)
        self.challenge = challenge


class Fault(NamedTuple):
    """What is wrong at one place of a document, and what would be accepted instead."""

    at: str  # JSON pointer; "" is the whole
    what: str
    remedy: str


class BadMandate(Refused):
    """A mandate that contradicts itself, gives more than may be given, or cannot be read.

    ``faults`` names what was written by whoever sent it, and is for them to see.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("bad_mandate", "; ".join(f"{fault.at or '/'}: {fault.what}" for fault in faults))
        self.faults = tuple(faults)


class NotSigned(Refused):
    """A tier that is not given or taken; ``detail`` says what is missing, for whoever would sign."""


class Overloaded(Refused):
    """A bound on work in flight was reached; ``retry_after`` is in seconds."""

    def __init__(self, code: str = "overloaded", detail: str = "", retry_after: float = 1.0) -> None:
        super().__init__(code, detail)
        self.retry_after = retry_after


class PolicyError(WardgateError):
    """The engine raised, overran, or answered with undefined or an unknown shape."""


class JournalError(WardgateError):
    """A record could not be made durable."""


class StateError(WardgateError):
    """Facts could not be read or settled."""


class ApprovalError(WardgateError):
    """An approval is not, or no longer, what an action on it needs; nothing was changed.

    ``state`` is the approval as it is now, for whoever may see it.
    """

    def __init__(self, code: str, detail: str = "", state: Mapping[str, object] | None = None) -> None:
        super().__init__(code, detail)
        self.state = state


class UpstreamError(WardgateError):
    """A call did not bring back an answer."""


class NotSent(UpstreamError):
    """No byte of the call was handed to the transport, so it cannot have had an effect."""


class BadArguments(NotSent):
    """The arguments do not fit the tool.

    ``remedy`` is told to the agent. It is made of the tool's description, without values of arguments.
    """

    def __init__(self, remedy: str) -> None:
        super().__init__("invalid_arguments", "the arguments do not fit the description of the tool")
        self.remedy = remedy


class InDoubt(UpstreamError):
    """The call may have reached the upstream and its outcome is unknown."""
