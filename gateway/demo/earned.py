"""A scene of the demo: an agent earns T2 in one domain and loses it after an incident.

Weeks pass in a second, on a clock of its own that is moved by hand, and it says so. The rest is the product:
the same accounts, ledger, rules and signatures as in a running gateway, in a storage of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.model import Call, Decision, Facts, Manifest, Operator, Principal, Tool, Verified
from gateway.standing.book import Book
from gateway.standing.desk import Around, TrustDesk
from gateway.standing.intake import Intake
from gateway.standing.ranks import Ranks
from gateway.storage.database import Database
from gateway.storage.trust import TrustStore, Where
from gateway.trust.evidence import against
from gateway.trust.settings import DAY, Settings

if TYPE_CHECKING:
    from rich.console import Console

START: Final = 20_454 * DAY + DAY // 3  # a morning
A_DAY: Final = 15
_WHERE: Final = Where("default", "support-bot", "customers")
_AGENT: Final = Principal(
    tenant="default", agent="support-bot", owner="support-team@example.com", credential="demo", build="demo",
    attested="config",
)  # fmt: skip
_UPDATE: Final = Tool(
    kind="tool", upstream="office", name="update_customer", target="office/update_customer", schema_hash="",
    manifest=Manifest(risk="reversible", effects=("write",), domain="customers"),
)  # fmt: skip
_YOU: Final = Operator(name="you", tenant="default", role="operator", credential="demo")


class Scene:
    """The agent's weeks. ``said`` is what is shown, a line for each thing that happened."""

    def __init__(self, store: TrustStore) -> None:
        self.now = START
        self.said: list[tuple[str, str, str]] = []
        self.calls = 0
        self.book = Book(store, Settings(), lambda: self.now)
        self.ranks = Ranks(self.book)
        self.intake = Intake(self.book, self.ranks, domain_of=lambda _: _WHERE.domain)
        self.desk = TrustDesk(
            self.book, self.ranks,
            Around(
                registered=lambda tenant, agent: _AGENT, outside=lambda operator, owner: True,
                domains=lambda: (_WHERE.domain,), rules=_no_rules, domain_of=lambda _: _WHERE.domain,
            ),
        )  # fmt: skip

    async def play(self) -> None:
        self._tell(f"asks to update a customer: {self.asks()}", await self._stands())
        while (await self.desk.show(_WHERE))["next"]["eligible"] is False:
            await self._day()
        stands = await self.desk.show(_WHERE)
        self._tell("may be signed", stands["sentence"])
        await self.desk.promote(_WHERE, _YOU, to=2, reason="read twenty of the updates")
        self._tell("you sign T2", await self._stands())
        self._tell(f"asks to update a customer: {self.asks()}", "")
        await self._day()
        row = against("incident", "incident:demo", **_WHERE._asdict(), risk="reversible", at_ns=self.now,
                      note="it gave away a discount")  # fmt: skip
        self.book.struck(_WHERE, "incident", row)
        self._tell(f"an incident is reported; asks again: {self.asks()}", "")
        await self.book.flush()
        self._tell("afterwards", await self._stands())

    def asks(self) -> str:
        """What a call would meet now."""
        rank = self.ranks.ask(self._call(), Facts())
        if rank.refusal is not None:
            return rank.refusal.code
        return rank.guarded.code if rank.guarded is not None else "goes"

    async def _day(self) -> None:
        """A day's verified work; it counts when its grace is over."""
        for _ in range(A_DAY):
            call = self._call()
            self.intake.verified(
                Verified(call_id=call.id, principal=_AGENT, tool=_UPDATE, session=call.session,
                         result="verified", made=call)
            )  # fmt: skip
        await self.book.flush()
        self.now += DAY
        await self.book.sweep()
        await self.book.flush()

    def _call(self) -> Call:
        self.calls += 1
        args = {"customer_id": f"C-{1000 + self.calls}", "note": "x" * 2 ** (self.calls % 7)}
        return Call(
            id=f"demo-{self.calls}", principal=_AGENT, tool=_UPDATE, args=args,
            args_json=msgspec.json.encode(args), digest="", session=f"s-{self.calls // 5}", thread="",
            surface="mcp", effect_key="", received_ns=self.now,
        )  # fmt: skip

    async def _stands(self) -> str:
        found: dict[str, Any] = await self.desk.show(_WHERE)
        return str(found["sentence"])

    def _tell(self, what: str, said: str) -> None:
        self.said.append((f"day {(self.now - START) // DAY}", what, said))

    @property
    def met(self) -> Sequence[str]:
        """What the three questions met, in order."""
        return [what.rpartition(": ")[2] for _, what, _ in self.said if "asks" in what]


async def earn_and_lose(folder: Path, console: Console) -> list[str]:
    """Play the scene and show it; returns what went otherwise than it should."""
    from rich.table import Table

    logging.getLogger("wardgate.trust").addHandler(logging.NullHandler())  # the table says it
    with Database(folder / "earned.db").open() as database:
        scene = Scene(TrustStore(database))
        await scene.play()
    console.print(
        "\nTrust is earned and lost; a compressed clock, so that weeks pass in a second:", style="bold"
    )
    table = Table(box=None, pad_edge=False, show_header=False)
    for width in (7, 34):
        table.add_column(min_width=width)
    table.add_column(overflow="fold", ratio=1)
    for row in scene.said:
        table.add_row(*row)
    console.print(table)
    expected = ["trust_needs_person", "goes", "trust_observe_only"]
    return [] if scene.met == expected else [f"trust: expected {expected}, and it was {scene.met}"]


def _no_rules(question: object) -> Decision:
    return Decision(verdict="allow", findings=())
