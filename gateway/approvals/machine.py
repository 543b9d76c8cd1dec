"""The states of an approval, and what may follow on what. Pure: no clock, no database.

    pending ─ approve ▸ approved ─ claim ▸ executing ─ answered ▸ executed
       │                   │                 │  ▴
       └───────┬───────────┘      lapse,     ▾  │ claim
               ▾                  unsent  recovering ─ give up ▸ in_doubt | failed
      rejected, expired,                     │
      cancelled, superseded               in_doubt ─ resolve, late answer ▸ executed | failed

One rule above all: what was claimed once never again reaches a state that says nothing happened. After the
first claim only a proof (no byte was handed to the transport, or the upstream itself refused) makes an
approval ``failed``; whatever is unknown is ``in_doubt``.

``make model-check`` explores this module completely, with two workers, crashes, pauses, lost messages, and
shows that the known wrong variants of it do cause double effects.
"""

from __future__ import annotations

from typing import Final, Literal, NoReturn, get_args

import msgspec

State = Literal[
    "pending", "approved", "rejected", "expired", "cancelled", "superseded",
    "executing", "recovering", "in_doubt", "executed", "failed",
]  # fmt: skip
Became = Literal["executed", "failed", "unsent", "in_doubt"]
"""What an attempt reports: ``failed`` is the upstream's own refusal, ``unsent`` proof that nothing left."""

STATES: Final[tuple[State, ...]] = get_args(State)
UNCLAIMED: Final[tuple[State, ...]] = ("pending", "approved")
CLAIMED: Final[tuple[State, ...]] = ("executing", "recovering", "in_doubt")
LIVE: Final[tuple[State, ...]] = (*UNCLAIMED, *CLAIMED)
DENIES: Final[tuple[State, ...]] = ("rejected", "expired", "cancelled", "superseded", "failed")
"""States that say: there was no effect."""

MAX_ATTEMPTS: Final = 3


class Illegal(Exception):  # caught by the store, which answers with the state as it is
    """That does not follow on this state."""

    def __init__(self, state: State, event: str) -> None:
        super().__init__(f"an approval that is {state} cannot {event}")
        self.state = state
        self.event = event


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What the transitions depend on.

    ``unsent``: the current attempt is proven not to have been sent. ``tainted``: an attempt before it may
    have been. ``idempotent``: a second attempt has no second effect, by the tool's manifest.
    """

    state: State = "pending"
    attempt: int = 0
    unsent: bool = False
    tainted: bool = False
    idempotent: bool = False


def approve(was: Machine) -> Machine:
    """The last vote that was needed."""
    return _to(was, "approved", ("pending",), "be approved")


def reject(was: Machine) -> Machine:
    """A person says no."""
    return _to(was, "rejected", ("pending",), "be rejected")


def drift(was: Machine) -> Machine:
    """Decided again, policy says no: an approval discharges an escalation and never a deny."""
    if was.state == "recovering":
        return give_up(was)
    return _to(was, "rejected", ("approved",), "be refused by policy")


def expire(was: Machine) -> Machine:
    """Nobody decided, or nobody carried it out, in time."""
    return _to(was, "expired", UNCLAIMED, "expire")


def cancel(was: Machine) -> Machine:
    return _to(was, "cancelled", UNCLAIMED, "be cancelled")


def supersede(was: Machine) -> Machine:
    """Edited: another digest is another approval."""
    return _to(was, "superseded", UNCLAIMED, "be edited")


def claim(was: Machine) -> Machine:
    """A worker takes it, to send the call once."""
    if was.state not in ("approved", "recovering") or was.attempt >= MAX_ATTEMPTS:
        _refuse(was, "be carried out")
    return msgspec.structs.replace(
        was,
        state="executing",
        attempt=was.attempt + 1,
        tainted=was.tainted or (was.attempt > 0 and not was.unsent),
        unsent=False,
    )


def answered(was: Machine, attempt: int, became: Became) -> Machine:
    """What became of an attempt, at any later time. An older attempt's answer changes nothing here.

    Late answers of the current attempt are welcome: one that says it happened ends every doubt.
    """
    if attempt != was.attempt or was.state not in CLAIMED:
        return was
    if became == "executed":
        return msgspec.structs.replace(was, state="executed")
    if became == "unsent":
        was = msgspec.structs.replace(was, unsent=True)
    if was.state == "recovering":
        return was
    clean = not was.tainted and became in ("failed", "unsent")
    if was.state == "in_doubt":
        return msgspec.structs.replace(was, state="failed") if clean else was
    again = was.attempt < MAX_ATTEMPTS
    # What was proven not to be sent may be tried again; so may what has one effect however often it is sent.
    if again and ((became == "unsent" and clean) or (became in ("unsent", "in_doubt") and was.idempotent)):
        return msgspec.structs.replace(was, state="recovering")
    return msgspec.structs.replace(was, state="failed" if clean else "in_doubt")


def lapse(was: Machine, attempt: int) -> Machine:
    """The lease of an attempt ran out: its worker died, or is too late to send."""
    if was.state != "executing" or attempt != was.attempt:
        _refuse(was, "lapse")
    again = was.idempotent and was.attempt < MAX_ATTEMPTS
    return msgspec.structs.replace(was, state="recovering" if again else "in_doubt")


def give_up(was: Machine) -> Machine:
    """No more attempts: time is up, or policy says no. That is no proof that nothing happened."""
    if was.state != "recovering":
        _refuse(was, "be given up")
    clean = was.unsent and not was.tainted
    return msgspec.structs.replace(was, state="failed" if clean else "in_doubt")


def resolve(was: Machine, *, executed: bool) -> Machine:
    """A person, or a reconcile hook, found out."""
    if was.state != "in_doubt":
        _refuse(was, "be resolved")
    return msgspec.structs.replace(was, state="executed" if executed else "failed")


def _to(was: Machine, state: State, allowed: tuple[State, ...], event: str) -> Machine:
    if was.state not in allowed:
        _refuse(was, event)
    return msgspec.structs.replace(was, state=state)


def _refuse(was: Machine, event: str) -> NoReturn:
    raise Illegal(was.state, event)
