"""Deciding in the console: what is decided is what was shown, and everything else changes nothing."""

from __future__ import annotations

import asyncio
import re

import orjson
import pytest

from gateway.model import Manifest
from tests.console.conftest import Browser, text_of
from tests.play import tool


def pinned(waiting, **said):
    return {"version": str(waiting.version), "digest": waiting.digest, **said}


async def test_a_reviewer_sees_what_it_is_about_and_approves_once(house):
    waiting = house.opens(args_json=b'{"amount_micro_usd":2450000000,"payee":"Cloud Hosting"}')
    browser = await Browser(house).sign_in("ann")
    page = text_of(await browser.page(f"/approvals/{waiting.id}"))
    for shown in ("alice wants to run bank/pay", "cannot be undone", "payee Cloud Hosting", "$2,450.00",
                  "of team-a", "left then it is denied", "stage 1 of 1"):  # fmt: skip
        assert shown in page, shown
    answer = await browser.post(f"/approvals/{waiting.id}/approve", pinned(waiting, reason="ordered"))
    assert answer.headers["location"] == f"/console/approvals/{waiting.id}?done=approve"
    full = house.store.show(waiting.id, "default")
    (vote,) = full.votes
    assert (full.approval.state, vote.principal, vote.shown_digest, vote.reason) == (
        "approved", "ann", waiting.digest, "ordered",
    )  # fmt: skip
    after = text_of(await browser.page(f"/approvals/{waiting.id}?done=approve"))
    assert "Your approval is counted" in after and "Not carried out yet" in after


@pytest.fixture
def secretive(house):
    """A tool of whose arguments one is sensitive."""
    before = house.stage.script["tool"]
    manifest = Manifest(risk="irreversible", sensitive=("/iban",))
    house.stage.script["tool"] = tool(manifest=manifest, target="bank/pay")
    yield house
    house.stage.script["tool"] = before


async def test_a_message_without_the_sensitive_arguments_has_no_button_to_approve(secretive):
    waiting = secretive.opens(args_json=b'{"iban":"EVIL","n":1}')
    preview = await secretive.desk.preview(waiting)
    assert "EVIL" not in preview.arguments and '"n": 1' in preview.arguments and not preview.whole
    assert (await secretive.desk.preview(secretive.opens(args_json=b'{"n":1}'))).whole


async def test_a_call_with_another_sensitive_value_is_not_called_the_same_as_the_last_one(secretive):
    for n, iban in enumerate((b"DE1", b"DE2")):
        waiting = secretive.opens(args_json=b'{"iban":"%s","n":1}' % iban, target="bank/quiet")
        browser = await Browser(secretive).sign_in("ann")
        page = text_of(await browser.page(f"/approvals/{waiting.id}"))
        assert ("no value that is shown differs from the last such call" in page) is bool(n)
        assert "the same as the last such call" not in page and "DE1" not in page and "DE2" not in page
        await browser.post(f"/approvals/{waiting.id}/approve", pinned(waiting))


async def test_of_a_tool_that_is_not_listed_any_more_no_argument_is_shown(secretive):
    waiting = secretive.opens(args_json=b'{"iban":"DE89 3704","n":1}', target="bank/gone")
    browser = await Browser(secretive).sign_in("ann")
    assert "[redacted]" in (await browser.get(f"/approvals/{waiting.id}.json")).text
    secretive.stage.script["fail"] = "resolve"
    try:
        for path in (f"/approvals/{waiting.id}", f"/approvals/{waiting.id}.json"):
            assert "DE89" not in await browser.page(path)
        assert "what of its arguments is sensitive is not known" in await browser.page(
            f"/approvals/{waiting.id}"
        )
    finally:
        secretive.stage.script["fail"] = ""


async def test_a_rejection_has_a_code_and_words_for_the_agent(house):
    waiting = house.opens()
    browser = await Browser(house).sign_in("ann")
    answer = await browser.post(
        f"/approvals/{waiting.id}/reject",
        pinned(waiting, reason_code="too_risky", reason="Ask first.\r\nOK?"),
    )
    assert answer.status_code == 303
    after = house.store.show(waiting.id, "default").approval
    assert (after.state, after.reason_code, after.reason_text) == ("rejected", "too_risky", "Ask first.\nOK?")


@pytest.mark.parametrize(
    ("verb", "said", "status", "words"),
    [
        ("approve", {"digest": "0" * 64}, 412, "approval_stale"),
        ("approve", {"version": "9"}, 412, "approval_stale"),
        ("approve", {"version": "x"}, 422, "If-Match"),
        ("approve", {"digest": "short"}, 422, "digest"),
        ("reject", {"reason_code": "because"}, 422, "reason_code"),
        ("reject", {}, 422, "reason_code"),
        ("ask", {"question": ""}, 422, "question"),
        ("edit", {"arguments": "{"}, 400, "malformed_json"),
        ("edit", {"arguments": "[1]"}, 422, "arguments"),
        ("resolve", {"became": "executed", "note": "n"}, 403, "wrong_role"),
        ("grant", {"budget": "lots"}, 422, "budget"),
        ("grant", {"minutes": "61"}, 422, "minutes"),
    ],
)
async def test_what_does_not_hold_shows_what_there_is_and_does_nothing(house, verb, said, status, words):
    waiting = house.opens()
    browser = await Browser(house).sign_in("ann")
    answer = await browser.post(f"/approvals/{waiting.id}/{verb}", pinned(waiting, **said))
    page = text_of(answer.text)
    assert answer.status_code == status and words in page, page[:600]
    assert "Nothing was done" in page and "alice wants to run bank/pay" in page
    full = house.store.show(waiting.id, "default")
    assert full.approval.state == "pending" and full.votes == [] and full.approval.version == waiting.version


async def test_of_two_reviewers_the_second_is_shown_what_the_first_has_done(house):
    waiting = house.opens()
    ann, bob = await Browser(house).sign_in("ann"), await Browser(house).sign_in("bob")
    answers = await asyncio.gather(
        ann.post(f"/approvals/{waiting.id}/approve", pinned(waiting)),
        bob.post(f"/approvals/{waiting.id}/reject", pinned(waiting, reason_code="other")),
    )
    (lost,) = [each for each in answers if each.status_code != 303]
    assert lost.status_code == 409 and "Nothing was done" in text_of(lost.text)
    state = house.store.show(waiting.id, "default").approval.state
    assert f"> {state}</span>" in lost.text and len(house.store.show(waiting.id, "default").votes) == 1


async def test_the_same_click_twice_is_one_vote(house):
    waiting = house.opens()
    browser = await Browser(house).sign_in("ann")
    for _ in range(2):
        answer = await browser.post(f"/approvals/{waiting.id}/approve", pinned(waiting))
        assert answer.status_code == 303
    assert len(house.store.show(waiting.id, "default").votes) == 1


@pytest.mark.parametrize(("who", "code"), [("vic", "wrong_role"), ("pat", "wrong_role")])
async def test_who_only_looks_sees_no_arguments_and_decides_nothing(house, who, code):
    waiting = house.opens(args_json=b'{"secret_plan":"buy low"}')
    browser = await Browser(house).sign_in(who)
    page = await browser.page(f"/approvals/{waiting.id}")
    assert "buy low" not in page and "Arguments are shown to approvers" in page and "/approve" not in page
    assert "buy low" not in (await browser.get(f"/approvals/{waiting.id}.json")).text
    assert "buy low" not in (await browser.page("/queue"))
    answer = await browser.post(f"/approvals/{waiting.id}/approve", pinned(waiting))
    assert answer.status_code == 403 and code in answer.text
    assert house.store.show(waiting.id, "default").votes == []


async def test_nobody_decides_about_a_call_of_their_own(house):
    waiting = house.opens(owner="ann@example.com")
    browser = await Browser(house).sign_in("ann")
    page = await browser.page(f"/approvals/{waiting.id}")
    assert "This call comes from you" in page and f"{waiting.id}/approve" not in page
    answer = await browser.post(f"/approvals/{waiting.id}/approve", pinned(waiting))
    assert answer.status_code == 403 and "self_approval" in answer.text


async def test_another_tenants_calls_are_not_there(house):
    waiting = house.opens()
    eve = await Browser(house).sign_in("eve")
    assert (await eve.get(f"/approvals/{waiting.id}")).status_code == 404
    assert (await eve.get(f"/approvals/{waiting.id}.json")).status_code == 404
    assert waiting.id not in await eve.page("/queue")
    answer = await eve.post(f"/approvals/{waiting.id}/approve", pinned(waiting))
    assert answer.status_code == 404
    assert house.store.show(waiting.id, "default").votes == []


async def test_an_edit_is_a_new_call_that_somebody_else_must_approve_too(house):
    waiting = house.opens(target="up/act", risk="reversible", args_json=b'{"n":1}', digest="e" * 64)
    browser = await Browser(house).sign_in("ann")
    answer = await browser.post(f"/approvals/{waiting.id}/edit", pinned(waiting, arguments='{"n": 2}'))
    assert answer.status_code == 303, text_of(answer.text)[:500]
    new = answer.headers["location"].removeprefix("/console/approvals/").partition("?")[0]
    assert new != waiting.id
    page = text_of(await browser.page(f"/approvals/{new}"))
    assert "edited by ann" in page and "in place of" in page
    assert house.store.show(waiting.id, "default").approval.state == "superseded"


async def test_a_question_is_put_and_shown(house):
    waiting = house.opens()
    browser = await Browser(house).sign_in("ann")
    answer = await browser.post(f"/approvals/{waiting.id}/ask", pinned(waiting, question="Which <invoice>?"))
    assert answer.status_code == 303
    page = await browser.page(f"/approvals/{waiting.id}")
    assert "Which &lt;invoice&gt;?" in page and "No answer yet" in page


async def test_a_page_that_is_open_is_told_that_its_call_has_changed(house):
    waiting = house.opens()
    browser = await Browser(house).sign_in("ann")
    part = {"hx-request": "true"}
    before = (await browser.get(f"/approvals/{waiting.id}?v={waiting.version}", **part)).text
    assert "pending" in before and "changed" not in before
    await browser.post(f"/approvals/{waiting.id}/reject", pinned(waiting, reason_code="other"))
    after = (await browser.get(f"/approvals/{waiting.id}?v={waiting.version}", **part)).text
    assert "rejected" in after and "It has changed since you opened it" in after


async def test_several_low_risk_calls_of_one_tool_are_approved_together(house):
    many = [house.opens(target="up/act", risk="reversible", agent="batch") for _ in range(3)]
    browser = await Browser(house).sign_in("ann")
    items = [f"{each.id}:{each.version}:{each.digest}" for each in many]
    answer = await browser.post("/queue/bulk", {"decision": "approve", "item": items})
    assert answer.headers["location"] == "/console/queue?approved=3"
    assert {house.store.state_of(each.id) for each in many} == {"approved"}


async def test_a_grant_is_made_of_ticked_fields_and_can_be_ended(house):
    waiting = house.opens(target="up/act", risk="reversible", args_json=b'{"n":1,"to":"x"}')
    browser = await Browser(house).sign_in("ann")
    await browser.post(f"/approvals/{waiting.id}/approve", pinned(waiting))
    now = house.store.show(waiting.id, "default").approval
    page = await browser.page(f"/approvals/{waiting.id}")
    assert "Approve similar calls for a while" in page and 'value="/n"' in page
    said = pinned(now, field=["/n"], minutes="20", uses="3", budget="1.5")
    answer = await browser.post(f"/approvals/{waiting.id}/grant", said)
    assert answer.status_code == 303, text_of(answer.text)[:400]
    (grant,) = (await browser.get("/grants.json")).json()["items"]
    assert (grant["fields"], grant["max_uses"], grant["budget_micro_usd"]) == (["/n"], 3, 1_500_000)
    assert grant["in_force"]
    assert (await browser.post(f"/grants/{grant['id']}/revoke")).status_code == 303
    assert "revoked by ann" in text_of(await browser.page("/grants"))


async def test_what_cannot_be_undone_gets_no_grant(house):
    waiting = house.opens()
    browser = await Browser(house).sign_in("ann")
    await browser.post(f"/approvals/{waiting.id}/approve", pinned(waiting))
    assert house.store.state_of(waiting.id) == "approved"
    now = house.store.show(waiting.id, "default").approval
    answer = await browser.post(f"/approvals/{waiting.id}/grant", pinned(now))
    assert answer.status_code in (403, 409) and "grant_refused" in answer.text


async def test_together_only_what_is_alike_and_low_is_approved_and_anything_rejected(house):
    high = house.opens(agent="batch2")
    low = house.opens(target="up/act", risk="reversible", agent="batch2")
    browser = await Browser(house).sign_in("ann")
    items = [f"{each.id}:{each.version}:{each.digest}" for each in (high, low)]
    answer = await browser.post("/queue/bulk", {"decision": "approve", "item": items})
    assert answer.status_code == 422 and "not_similar" in answer.text
    assert (await browser.post("/queue/bulk", {"decision": "reject"})).status_code == 422
    stale = [f"{high.id}:{high.version}:{'0' * 64}", items[1]]
    said = {"decision": "reject", "item": stale, "reason_code": "not_now", "reason": "Later."}
    answer = await browser.post("/queue/bulk", said)
    page = text_of(await browser.page(answer.headers["location"].removeprefix("/console")))
    assert "1 rejected, 1 not" in page and high.id in page
    assert (house.store.state_of(high.id), house.store.state_of(low.id)) == ("pending", "rejected")


async def test_a_canary_looks_like_any_call_until_it_is_decided(house):
    real = house.opens(target="up/act", risk="reversible", args_json=b'{"iban":"DE1"}')
    olga = house.directory.operator(b"Bearer " + house.minted["olga"].token.encode())
    planted = await house.desk.plant(olga, real.id, real.digest, {"iban": "XX9"}, "another IBAN")
    browser = await Browser(house).sign_in("ann")
    for path in ("/queue", f"/approvals/{planted['id']}", f"/approvals/{planted['id']}.json"):
        text = (await browser.get(path)).text.lower()
        assert '"canary": {' not in text and "another iban" not in text and "this was a canary" not in text
    ids = r"[0-9a-f]{8,}(-[0-9a-f]{4})?|\d+ s"
    before = re.sub(ids, "", text_of(await browser.page(f"/approvals/{real.id}")))
    after = re.sub(ids, "", text_of(await browser.page(f"/approvals/{planted['id']}")))
    assert set(after.split()) - set(before.split()) <= {"XX9", '"XX9"'}
    said = {"version": str(planted["version"]), "digest": planted["digest"]}
    assert (await browser.post(f"/approvals/{planted['id']}/approve", said)).status_code == 303
    assert "This was a canary" in text_of(await browser.page(f"/approvals/{planted['id']}"))
    page = text_of(await browser.page("/reviewers"))
    assert "1 of 1" in page and "canary approved" in page and "you see your own" in page


HOSTILE = (
    "<img src=x onerror=alert(1)> </td><script>alert(2)</script> \x1b[31m \u202etxt.exe\u202c a\u200bb pаypal"
)


async def test_hostile_text_is_shown_as_text_with_what_hides_named(house):
    args = orjson.dumps({"to": HOSTILE, HOSTILE: {"x\u2066": [HOSTILE, 1, None, True]}})
    waiting = house.opens(
        args_json=args, agent="mallory", session=HOSTILE, subject=HOSTILE, target="bank/p\u202eay",
        reasons_json=orjson.dumps([{"code": "x", "message": HOSTILE, "rule": ""}]).decode(),
    )  # fmt: skip
    browser = await Browser(house).sign_in("ann")
    for path in (f"/approvals/{waiting.id}", "/queue?agent=mallory", f"/queue?q={'%3Cimg'}"):
        page = await browser.page(path)
        assert "<img src=x" not in page and "<script>alert" not in page and "\x1b" not in page
        shown = page.replace('value="', "")  # of form fields, which show what is to be edited
        assert "\u200b" not in shown.partition("<textarea")[0]
    page = await browser.page(f"/approvals/{waiting.id}")
    assert 'title="U+202E RIGHT-TO-LEFT OVERRIDE">U+202E<' in page
    assert ">ESC<" in page and ">U+200B<" in page and "words that mix alphabets which look alike" in page
    assert "characters that turn the order of text around" in page
