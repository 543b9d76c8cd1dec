"""One session: everything that is known of one piece of work, at a bounded size however long it lasts.

It changes by ``apply`` alone, one ``Mark`` a call, and by the acts of people. A mark is written in the
record of its call and is the whole of what the call did to the session, so after a crash the same marks make
the same session. Nothing here looks at a clock: times are the gateway's steady time, in nanoseconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from sys import intern
from typing import Any, Final, Literal, NamedTuple

import msgspec

from gateway.model import HELD_TOOL, OWN, OWN_TOOL, Mark
from gateway.sessions import mandate as mandates
from gateway.sessions.budgets import Account, Limit
from gateway.sessions.labels import Labels
from gateway.sessions.mandate import Mandate
from gateway.sessions.monitors import Monitors, Note
from gateway.sessions.progress import Horizon, Progress
from gateway.sessions.provenance import Harvest, Prints

LAST: Final = 8
SUSPECTS: Final = 8
KNOWN_TOOLS: Final = 128
_SLOW: Final = 8  # targets whose facts of the mandate are kept; each may take 2 KB

_NOTHING: Final[Mapping[str, Any]] = {}
_OWN: Final = (f"{OWN}/{OWN_TOOL}", f"{OWN}/{HELD_TOOL}")
_S: Final = 1_000_000_000
COMMITTED: Final = (
    "ok", "tool_error", "rpc_error", "input_required", "withheld", "unobserved", "in_doubt", "failed",
)  # fmt: skip
"""Outcomes of calls that were made. What may have happened counts, or doubt would be a way around a limit."""

_MAY_HAVE_WORKED: Final = ("ok", "withheld", "unobserved", "input_required")

_harvest: Final = msgspec.msgpack.Decoder(Harvest).decode
_encode: Final = msgspec.msgpack.Encoder().encode

Status = Literal["open", "closed"]


class Step(NamedTuple):
    """One of the last calls."""

    target: str
    risk: str
    status: str
    at_ns: int


class Whose(msgspec.Struct, frozen=True, kw_only=True):
    """Who may use a session, and where it came from. Never changes."""

    id: str
    tenant: str
    agent: str
    credential: str = ""  # "" when any credential of the agent will do
    subject: str | None = None
    rolling: bool = True  # the one a principal has without asking
    parent: str = ""  # the session it was delegated from
    opened_ns: int = 0  # steady
    opened_by: str = ""


class Saved(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A session at rest, besides what never changes."""

    n: int
    acts: int
    status: Status
    successor: str = ""
    learned: str = ""
    calls: int = 0
    writes: int = 0
    irreversible: int = 0
    denials: int = 0
    errors: int = 0
    labels: Labels
    progress: Progress
    account: Mapping[str, Any]
    last: list[Step] = []
    known: list[str] = []
    prints: bytes = b""
    monitors: bytes = b""
    suspects: dict[str, int] = {}


class Session:
    """A live session. All methods run on the event loop's thread."""

    __slots__ = (
        "account", "acts", "ancestors", "calls", "denials", "dirt", "errors", "horizon", "irreversible",
        "key", "known", "labels", "last", "learned", "mandate", "monitors", "moved", "n", "prints",
        "progress", "running", "saved_n", "slow", "status", "successor", "suspects", "watched", "whose",
        "writes",
    )  # fmt: skip

    def __init__(
        self,
        whose: Whose,
        mandate: Mandate | None,
        account: Account,
        prints: Prints,
        key: bytes,
        monitors: Monitors,
    ) -> None:
        """``prints`` has learned the mandate; ``key`` is theirs."""
        self.whose = whose
        self.key = key
        self.prints = prints
        self.monitors = monitors
        self.watched = monitors.initial()
        self.learned = mandate.id if mandate is not None else ""  # the mandate that ``prints`` has learned
        self.moved = False  # whether the last call moved a monitor
        self.running: dict[str, Note] = {}  # what calls under way would mean to the monitors
        self.mandate = mandate
        self.account = account
        self.ancestors: tuple[Session, ...] = ()  # nearest first
        self.successor: Session | None = None  # after a rotation
        self.status: Status = "open"
        self.n = 0  # of the newest mark in it
        self.acts = 0  # number of the newest act in it
        self.saved_n = -1  # ``n`` as it is stored; less when it was never stored or an act changed it
        self.dirt = 0  # how often it changed without a mark
        self.calls = self.writes = self.irreversible = self.denials = self.errors = 0
        self.labels = Labels()
        self.progress = Progress(since_ns=whose.opened_ns)
        self.last: deque[Step] = deque(maxlen=LAST)
        self.known: dict[str, None] = {}
        self.horizon = Horizon()
        self.suspects: dict[str, int] = {}  # by trip of a breaker: when what was wrong began
        self.slow: dict[
            str, Mapping[str, Any]
        ] = {}  # facts that rarely change, by target, made when asked for

    # ---------------------------------------------------------------------------------------- the fold

    def apply(self, mark: Mark) -> None:
        """What one call did. A mark that is in already changes nothing."""
        if mark.n <= self.n:
            return
        self.n = mark.n
        if mark.quiet:
            self.running.pop(mark.call, None)
            return
        self._count(mark)
        self._shown(mark)
        if mark.lowered:
            self.labels.lowered(mark.lowered)
        if mark.status in COMMITTED:
            self.progress.acted(mark.risk)
            for name in mark.verified:
                self.progress.reached(name, mark.at_ns)

    def took(self, mark: Mark) -> None:
        """What a call of a session below, or of the one before, did: what it read may come here."""
        if mark.n > self.n:
            self.n = mark.n
            if mark.quiet:
                self.running.pop(mark.call, None)
                return
            self._shown(mark)

    def _shown(self, mark: Mark) -> None:
        if self.running:
            self.running.pop(mark.call, None)
        self.labels.raised(mark.untrusted, mark.confidentiality, mark.raised, mark.target)
        if mark.prints:
            self.prints.apply(_harvest(mark.prints))
        self.moved = False
        if mark.status in COMMITTED:
            # A limit on one session would be none if its children did not count.
            note = Note(mark.at_ns) if mark.watched is None else msgspec.convert(mark.watched, Note)
            self.moved = self.monitors.apply(self.watched, note)

    def _count(self, mark: Mark) -> None:
        status = mark.status
        target = intern(mark.target)  # a text for all sessions, after a restart too
        if status == "refused":
            self.denials += 1
        else:
            self.calls += 1
            self.writes += mark.risk != "read"
            self.irreversible += mark.risk == "irreversible"
            self.errors += status not in _MAY_HAVE_WORKED
            if target not in self.known and len(self.known) < KNOWN_TOOLS:
                self.known[target] = None
        self.last.append(Step(target, intern(mark.risk), intern(status), mark.at_ns))

    def watched_by(self, monitors: Monitors) -> tuple[str, ...]:
        """Go on under other monitors; returns the names of those that changed and begin anew."""
        if monitors is self.monitors:
            return ()
        before = self.monitors.encode(self.watched)
        self.monitors = monitors
        self.watched, dropped = monitors.decode(before)
        self.running.clear()
        return dropped

    # ------------------------------------------------------------------------------------------- facts

    def slow_facts(self, target: str) -> Mapping[str, Any]:
        """``input.mandate`` as far as it is about one target; "" for all of it.

        The same object as long as the mandate is the same, so that what policy remembers by it is found.
        """
        if self.mandate is None:
            return _NOTHING
        found = self.slow.get(target)
        if found is None:
            if len(self.slow) >= _SLOW:
                self.slow.clear()
            about = mandates.facts(self.mandate, target or None)
            if target in _OWN:  # whatever was delegated, its agent may look at it
                about = {**about, "reads": "any", "risks": list(dict.fromkeys(("read", *about["risks"])))}
            found = self.slow[target] = {"mandate": about}
        return found

    def facts(self, target: str, at_ns: int) -> dict[str, Any]:
        """``input.session``."""
        labels = self.labels
        mandate = self.mandate
        found: dict[str, Any] = {
            "id": self.whose.id,
            "rolling": self.whose.rolling,
            "age_s": max(0, at_ns - self.whose.opened_ns) // _S,
            "calls": self.calls,
            "writes": self.writes,
            "irreversible": self.irreversible,
            "denials": self.denials,
            "errors": self.errors,
            "integrity": "untrusted" if labels.untrusted else "trusted",
            "confidentiality": labels.confidentiality,
            "labels": labels.all(),
            "sources": list(labels.sources),
            "last": [
                {"target": target, "risk": risk, "status": status,
                 "age_s": (at_ns - then) // _S if at_ns > then else 0}
                for target, risk, status, then in self.last
            ],
            "new": {"tool": target not in self.known},
        }  # fmt: skip
        if self.suspects:
            found["suspect_since"] = self.suspect_ns
        if self.horizon.bounds:
            milestones = [each.name for each in mandate.milestones] if mandate is not None else ()
            found["progress"] = self.progress.facts(at_ns, self.horizon, milestones)
        return found

    # -------------------------------------------------------------------------------------------- rest

    def saved(self) -> Saved:
        return Saved(
            n=self.n, acts=self.acts, status=self.status,
            successor=self.successor.whose.id if self.successor is not None else "",
            calls=self.calls, writes=self.writes, irreversible=self.irreversible, denials=self.denials,
            errors=self.errors, labels=self.labels, progress=self.progress, account=self.account.encode(),
            learned=self.learned, last=list(self.last), known=list(self.known),
            prints=_encode(self.prints.encode()), monitors=_encode(self.monitors.encode(self.watched)),
            suspects=self.suspects,
        )  # fmt: skip

    def restored(self, saved: Saved) -> tuple[str, ...]:
        """Take in what was saved; ``successor`` and ancestors are the caller's to find.

        Returns the names of monitors that changed since and begin anew.
        """
        self.n = self.saved_n = saved.n
        self.acts = saved.acts
        self.status = saved.status
        self.calls, self.writes, self.irreversible = saved.calls, saved.writes, saved.irreversible
        self.denials, self.errors = saved.denials, saved.errors
        self.labels, self.progress = saved.labels, saved.progress
        self.account = Account.decode(saved.account)
        self.last = deque(saved.last, maxlen=LAST)
        self.known = dict.fromkeys(map(intern, saved.known))
        self.prints = Prints.decode(msgspec.msgpack.decode(saved.prints), self.key)
        self.learned = saved.learned
        self.suspects = dict(saved.suspects)
        self.watched, dropped = self.monitors.decode(msgspec.msgpack.decode(saved.monitors))
        return dropped

    @property
    def suspect_ns(self) -> int:
        """Since when it is suspect; 0 when it is not."""
        return min(self.suspects.values(), default=0)

    def suspected(self, trip: str, since_ns: int) -> None:
        """A breaker stopped it, for what began then."""
        self.suspects.setdefault(trip, since_ns)
        if len(self.suspects) > SUSPECTS:  # what began first matters most
            del self.suspects[max(self.suspects, key=self.suspects.__getitem__)]

    def soil(self) -> None:
        """It changed without a mark, so its number does not tell."""
        self.saved_n = -1
        self.dirt += 1

    @property
    def dirty(self) -> bool:
        return self.n != self.saved_n


def limits_of(mandate: Mandate | None) -> tuple[Limit, ...]:
    """The budgets of a mandate as limits since the session began."""
    if mandate is None:
        return ()
    return tuple(Limit(metric, limit) for metric, limit in mandate.budgets.items())  # type: ignore[arg-type]  # checked by ``mandate.parse``


def learned(mandate: Mandate | None, key: bytes) -> Prints:
    """What a session knows of values before its first call."""
    prints = Prints(key)
    if mandate is not None:
        prints.learn_request(mandate.request)
        prints.trust(mandate.trusted_values)
        # A value that the mandate allows is one that it names.
        choices = (bounds.one_of or () for each in mandate.arguments.values() for bounds in each.values())
        prints.trust(str(value) for values in choices for value in values if isinstance(value, str | int))
    return prints
