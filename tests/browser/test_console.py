"""The console in Debian's Chromium: by keyboard alone, for everybody, live, and against hostile text."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.browser import axe
from tests.browser.conftest import DESKTOP, PHONE
from tests.browser.scene import HOSTILE
from tests.requires import requires

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), requires("chromium", "npm")]


async def test_a_whole_review_by_keyboard(company, at_desk):
    made, waiting = company
    async with at_desk("bob") as desk:
        page = desk.page
        assert await page.locator("#row-" + waiting["pay"]).count() == 1
        # To the filter, to the row, open.
        await page.keyboard.press("/")
        await page.keyboard.type("nothing of that name")
        await page.keyboard.press("Enter")
        await page.wait_for_selector(".empty")
        await page.keyboard.press("/")
        await page.keyboard.type("pay_invoice")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#row-" + waiting["pay"])
        await page.keyboard.press("j")
        assert await page.evaluate("document.activeElement.textContent.trim()") == "office/pay_invoice"
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/approvals/**")
        assert "finance-bot wants to run office/pay_invoice" in await page.inner_text("h1")
        # A key alone decides nothing: it moves, and Enter presses.
        await page.keyboard.press("q")
        await page.keyboard.type("Who ordered this?")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.wait_for_selector(".notice.fine")
        assert "Asked" in await page.inner_text(".notice.fine")
        await page.keyboard.press("a")
        assert "Approve once" in await page.evaluate("document.activeElement.innerText")
        assert (await made.api("bob", "GET", f"/v1/approvals/{waiting['pay']}"))["state"] == "pending"
        await page.keyboard.press("Enter")
        await page.wait_for_selector(".notice.fine")
        assert "Your approval is counted" in await page.inner_text(".notice.fine")
        assert (await made.api("bob", "GET", f"/v1/approvals/{waiting['pay']}"))["state"] == "approved"
        # And a rejection.
        await page.goto(f"{desk.base}/approvals/{waiting['delete']}")
        await page.keyboard.press("r")
        assert await page.evaluate("document.activeElement.id") == "reject-code"
        await page.keyboard.type("too")  # chooses "too risky"
        await page.keyboard.press("Tab")
        await page.keyboard.type("Close the account instead.")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.wait_for_selector(".notice.fine")
        after = await made.api("bob", "GET", f"/v1/approvals/{waiting['delete']}")
        assert (after["state"], after["reason_code"]) == ("rejected", "too_risky")
        await page.keyboard.press("n")
        await page.wait_for_url(lambda url: "/approvals/" in url and waiting["delete"] not in url)
        await page.keyboard.press("g")
        await page.wait_for_url("**/console/queue")
        await page.keyboard.press("?")
        assert await page.evaluate("document.querySelector('#keys').open")
        await page.keyboard.press("Escape")
        assert desk.said == []


def pages(waiting) -> list[str]:
    return [
        "/queue",
        "/queue?state=any&q=mail",
        "/queue/result?done=1&what=approve&left=x:approval_stale:pending",
        f"/approvals/{waiting['mail']}",
        f"/approvals/{waiting['hostile']}",
        "/grants",
        "/reviewers",
        "/envelopes",
        "/trust",
        "/trust/support-bot/mail",
        "/decisions",
        "/sessions",
        "/agents",
        "/agents/finance-bot",
        "/breakers",
        "/kill",
        "/tools",
        "/tool?kind=tool&target=office/pay_invoice",
        "/policies",
        "/policy?id=test.payments&line=22",
        "/status",
        "/help",
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_no_page_has_a_barrier_or_complains(company, at_desk, axe_script, scheme, size):
    made, waiting = company
    async with at_desk("ada", color_scheme=scheme, viewport=size) as desk:
        found = {}
        decided = (await made.api("ada", "GET", "/v1/decisions?limit=1"))["items"][0]["call_id"]
        session = (await made.api("ada", "GET", "/v1/sessions?limit=1"))["items"][0]["id"]
        trip = (await made.api("ada", "GET", "/v1/breakers/trips?limit=1"))["items"][0]["id"]
        more = [f"/decisions/{decided}?explain=1", f"/sessions/{session}", f"/trips/{trip}"]
        for path in [*pages(waiting), *more]:
            page = await desk.go(path)
            await page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
            if wrong := await axe.violations(page, axe_script):
                found[path] = wrong
            # Nothing is wider than the window, so nobody has to scroll two ways.
            wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
            if wide > 0:
                found.setdefault(path, []).append(f"{wide} pixels too wide")
        await page.context.clear_cookies()
        for path in ("/login", "/approvals/x"):
            await page.goto(f"{desk.base}{path}")
            if wrong := await axe.violations(page, axe_script):
                found[path] = wrong
        assert not found, "\n".join(f"{path}: {each}" for path, wrong in found.items() for each in wrong)
        assert desk.said == []


async def test_of_two_who_race_one_decides_and_the_other_is_told(company, at_desk):
    made, waiting = company
    path = f"/approvals/{waiting['customer 1001']}"
    async with at_desk("bob") as bob, at_desk("cleo") as cleo:
        await bob.go(path)
        await cleo.go(path)
        await bob.page.click("[data-key=approve]")
        await bob.page.wait_for_selector(".notice.fine")
        # Live, without asking.
        moved = cleo.page.locator(".moved")
        await moved.wait_for(timeout=5000)
        assert "It has changed since you opened it" in await moved.inner_text()
        # And whoever decides all the same does nothing.
        await cleo.page.keyboard.press("r")
        await cleo.page.click("text=✕ Reject >> nth=-1")
        await cleo.page.wait_for_selector(".notice.refused")
        assert "Nothing was done" in await cleo.page.inner_text(".notice.refused")
        assert "approved" in await cleo.page.inner_text("#state")
    found = await made.api("bob", "GET", f"/v1/approvals/{waiting['customer 1001']}")
    assert [vote["by"] for vote in found["votes"]] == ["bob"]


async def test_hostile_text_stays_text(company, at_desk):
    _, waiting = company
    async with at_desk("ada") as desk:
        page = await desk.go(f"/approvals/{waiting['hostile']}")
        await page.wait_for_timeout(300)
        assert "owned" not in await page.title()
        assert await page.locator("main img").count() == 0
        shown = await page.inner_text(".tree")
        assert "<script>" in shown and "U+202E" in shown and "ESC" in shown
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x1b]", await page.inner_text("main"))
        # What is to be edited is exactly what the agent sent, escaped by JSON itself where it hides.
        edited = await page.input_value("#edit-args")
        assert "U+" not in edited and HOSTILE[:20] in edited.replace('\\"', '"')
        assert desk.said == []


async def test_everything_works_without_scripts(company, at_desk):
    made, waiting = company
    async with at_desk("bob", java_script_enabled=False) as desk:
        page = await desk.go("/queue")
        await page.fill("input[name=q]", "update_customer")
        await page.click("button:has-text('Filter')")
        assert await page.locator("[data-row]").count() >= 1
        await page.check(f"#row-{waiting['customer 1003']} input")
        await page.select_option("select[name=reason_code]", "not_now")
        await page.click("button:has-text('Reject ticked')")
        assert "1 call rejected" in await page.inner_text(".notice.fine")
        await desk.go(f"/approvals/{waiting['customer 1002']}")
        await page.fill("#approve-reason", "Agreed with Ben.")
        await page.click("[data-key=approve]")
        assert "Your approval is counted" in await page.inner_text(".notice.fine")
        await page.click("text=Sign out")
        assert page.url.endswith("/console/login")
    for name, state in (("customer 1003", "rejected"), ("customer 1002", "approved")):
        found = await made.api("bob", "GET", f"/v1/approvals/{waiting[name]}")
        assert found["state"] == state


async def test_a_new_call_appears_and_focus_stays(company, at_desk):
    made, _ = company
    async with at_desk("bob") as desk:
        page = await desk.go("/queue?order=newest")
        before = await page.locator("[data-row]").count()
        await page.wait_for_timeout(600)  # the stream is open
        await page.focus("input[name=q]")
        await page.keyboard.type("half a wo")
        said = await made.call("support-bot", "update_customer", customer_id="C-1001", status="bronze")
        await page.wait_for_selector("#row-" + said["approval_id"], timeout=5000)
        assert await page.locator("[data-row]").count() == before + 1
        assert await page.evaluate("document.activeElement.name") == "q"
        assert await page.input_value("input[name=q]") == "half a wo"
        assert "wait" in await page.inner_text("#said")
        assert (await page.title()).startswith(f"({await page.inner_text('#waiting')})")
        # Ticked is ticked, whatever comes in.
        await page.check(f"#row-{said['approval_id']} input")
        other = await made.call("support-bot", "update_customer", customer_id="C-1002", status="bronze")
        await page.wait_for_selector("#row-" + other["approval_id"], timeout=5000)
        assert await page.is_checked(f"#row-{said['approval_id']} input")
        assert "1 ticked" in await page.inner_text(".bulk")
        assert desk.said == []


async def test_a_link_from_elsewhere_arrives_signed_in(company, at_desk, browser):
    _, waiting = company
    async with at_desk("ada") as desk:
        # Another origin: localhost is not 127.0.0.1.
        elsewhere = desk.base.replace("127.0.0.1", "localhost")
        await desk.page.goto(f"{elsewhere}/login")
        await desk.page.evaluate(
            "url => { const a = document.createElement('a'); a.href = url; document.body.append(a);"
            " a.click(); }",
            f"{desk.base}/approvals/{waiting['hostile']}",
        )
        await desk.page.wait_for_selector("h1:has-text('wants to run')", timeout=10_000)


async def test_a_form_elsewhere_cannot_decide(company, at_desk):
    made, waiting = company
    found = await made.api("ada", "GET", f"/v1/approvals/{waiting['hostile']}")
    async with at_desk("ada") as desk:
        await desk.page.goto(f"{desk.base.replace('127.0.0.1', 'localhost')}/help")
        body = f"version={found['version']}&digest={found['digest']}"
        await desk.page.evaluate(
            """([url, body]) => fetch(url, {method: 'POST', mode: 'no-cors', credentials: 'include', body,
                headers: {'content-type': 'application/x-www-form-urlencoded'}}).catch(() => 0)""",
            [f"{desk.base}/approvals/{waiting['hostile']}/approve", body],
        )
        await asyncio.sleep(0.3)
    after = await made.api("ada", "GET", f"/v1/approvals/{waiting['hostile']}")
    assert (after["state"], after["votes"]) == ("pending", [])
