"""Trust in the console: where an agent stands in a sentence, its bound over time, and a signature."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gateway.model import Decision, Principal
from gateway.standing.book import Book
from gateway.standing.desk import Around, TrustDesk
from gateway.standing.ranks import Ranks
from gateway.storage.trust import TrustStore, Where
from gateway.surfaces.admin import create_admin
from gateway.surfaces.console import create_console
from gateway.surfaces.console.views.trust import HEIGHT, WIDTH, chart
from gateway.trust.settings import DAY, Settings
from tests.console.conftest import Browser, text_of
from tests.storage.at import at
from tests.trust.support import NOW, worked

WHO = Principal(
    tenant="default", agent="refund-bot", owner="payments", credential="", build="b", attested="config"
)
WHERE = Where("default", "refund-bot", "refunds")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[TrustDesk]:
    with at(tmp_path / "trust.db").open() as opened:
        store = TrustStore(opened)
        rows = worked(14, 15, tenant="default", agent="refund-bot", domain="refunds", build="b", print="")
        store.add(rows, 50)
        book = Book(store, Settings(), lambda: NOW)
        yield TrustDesk(
            book, Ranks(book),
            Around(
                registered=lambda tenant, agent: WHO if agent == "refund-bot" else None,
                outside=lambda operator, owner: True, domains=lambda: {"refunds"},
                rules=lambda question: Decision(verdict="allow", findings=()), domain_of=lambda _: "refunds",
            ),
        )  # fmt: skip


@pytest.fixture
async def trusting(house, desk):
    """The house with trust in it."""
    await desk._book.open()
    admin = msgspec.structs.replace(house.console.admin, trust=lambda: desk)
    before = house.app
    house.app = create_admin(admin, create_console(msgspec.structs.replace(house.console, admin=admin)))
    yield house
    house.app = before


async def test_where_no_trust_is_kept_the_page_says_so(house):
    browser = await Browser(house).sign_in("ann")
    assert "No trust is kept" in text_of(await browser.page("/trust"))
    assert (await browser.get("/trust/refund-bot/refunds")).status_code == 404


async def test_an_agent_is_explained_drawn_and_signed_for(trusting):
    browser = await Browser(trusting).sign_in("ann")
    listed = await browser.page("/trust")
    assert "/console/trust/refund-bot/refunds" in listed
    page = await browser.page("/trust/refund-bot/refunds")
    assert "For T2: a signature." in text_of(page)
    assert "<polyline" in page and "Sign T2" in page
    said = {"tier": "2", "reason": "read 20 refunds"}
    answer = await browser.post("/trust/refund-bot/refunds/promote", said)
    assert answer.status_code == 303 and "done=promoted" in answer.headers["location"]
    after = text_of(await browser.page("/trust/refund-bot/refunds"))
    assert "T2 (reversible writes)" in after and "read 20 refunds" in after
    twin = (await browser.get("/trust/refund-bot/refunds.json")).json()
    assert twin["trust"]["tier"] == 2 and len(twin["chart"]["marks"]) == 1
    answer = await browser.post("/trust/refund-bot/refunds/demote", {"tier": "0", "reason": "new prompt"})
    assert answer.status_code == 303
    answer = await browser.post("/trust/refund-bot/refunds/promote", said)
    assert answer.status_code == 409 and "one by one" in text_of(answer.text)


async def test_who_may_only_look_signs_nothing(trusting):
    browser = await Browser(trusting).sign_in("vic")
    assert "Sign T2" not in await browser.page("/trust/refund-bot/refunds")
    answer = await browser.post("/trust/refund-bot/refunds/promote", {"tier": "2", "reason": "x"})
    assert answer.status_code == 403
    stranger = await Browser(trusting).sign_in("eve")
    twin = (await stranger.get("/trust/refund-bot/refunds.json")).json()
    assert "refund-bot" not in await stranger.page("/trust") and twin["trust"]["tier"] == 1


def test_the_chart_goes_up_with_every_nine_and_stays_in_its_frame():
    bounds = [0.0, 0.9, 0.99, 0.999, 1.0]
    curve = [{"at_ns": day * DAY, "bound": bound} for day, bound in enumerate(bounds)]
    drawn = chart(curve, [{"at_ns": 9 * DAY, "kind": "fell", "after": 0}])
    points = [tuple(map(float, each.split(","))) for each in drawn["line"].split()]
    assert [y for _, y in points] == [HEIGHT, 80.0, 40.0, 0.0, 0.0]
    assert points[0][0] == 0 and points[-1][0] == WIDTH
    assert drawn["marks"][0]["x"] == WIDTH
    assert chart(curve[:1], []) is None
