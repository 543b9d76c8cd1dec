"""Signing in to the console: who gets in, for how long, and that nobody else's page can act for them."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.surfaces.console import Terms
from gateway.surfaces.console.signin import COOKIE
from tests.console.conftest import BASE, Browser, text_of


async def test_without_a_sign_in_every_page_leads_to_it_and_back(house):
    browser = Browser(house)
    answer = await browser.get("/approvals/abc?x=1")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/console/login?next=%2Fconsole%2Fapprovals%2Fabc%3Fx%3D1"
    assert (await browser.get("/queue.json")).status_code == 401
    assert (await browser.get("/events")).status_code == 401
    assert (await browser.http.get("/console")).headers["location"] == "/console/"


async def test_an_operator_key_signs_in_and_the_cookie_is_strict(house):
    browser = Browser(house)
    key = house.minted["ann"].token
    answer = await browser.post("/login", {"key": f" {key}\n", "next": "/console/decisions"})
    assert answer.status_code == 303 and answer.headers["location"] == "/console/decisions"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/console" in cookie
    assert "Secure" not in cookie and key not in cookie
    assert "ann approver" in text_of(await browser.page("/queue"))


async def test_over_https_the_cookie_is_secure(house):
    browser = Browser(house, "https://gate.example")
    answer = await browser.post("/login", {"key": house.minted["ann"].token})
    assert "Secure" in answer.headers["set-cookie"]
    house.terms = Terms(url="https://gate.example/console")
    plain = Browser(house)  # behind a proxy that ends TLS
    answer = await plain.post("/login", {"key": house.minted["ann"].token})
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize("key", ["", "wgo_x_y", "an agent's", "ключ", "a\nb"])
async def test_what_is_no_operator_key_does_not_sign_in(house, key):
    key = house.minted["bot"].token if key == "an agent's" else key
    answer = await Browser(house).post("/login", {"key": key})
    assert answer.status_code == 401 and "set-cookie" not in answer.headers
    assert 'role="alert"' in answer.text and (key not in answer.text or not key)


@pytest.mark.parametrize(
    "where", ["https://evil.example", "//evil.example", "/console//evil.example", "/console/\\evil",
              "/v1/status", "javascript:alert(1)", "/console/logout", "/console/\nx"],
)  # fmt: skip
async def test_after_signing_in_nobody_is_sent_elsewhere(house, where):
    answer = await Browser(house).post("/login", {"key": house.minted["ann"].token, "next": where})
    assert answer.headers["location"] == "/console/queue"


async def test_a_revoked_key_is_out_at_the_next_click(house):
    browser = await Browser(house).sign_in("ann")
    await browser.page("/queue")
    house.revoke("ann")
    assert (await browser.get("/queue")).status_code == 303
    assert (await browser.get("/queue.json")).status_code == 401


async def test_who_signs_out_is_out_even_with_a_copy_of_the_cookie(house):
    browser = await Browser(house).sign_in("ann")
    copy = browser.http.cookies[COOKIE]
    assert (await browser.post("/logout")).status_code == 303
    assert (await browser.get("/queue")).status_code == 303
    thief = Browser(house)
    thief.http.cookies.set(COOKIE, copy)
    assert (await thief.get("/queue")).status_code == 303


async def test_a_sign_in_ends_by_idling_and_by_its_age(house):
    house.terms = Terms(life_s=4 * 3600, idle_s=1800)
    browser = await Browser(house).sign_in("ann")
    start = time.time_ns()
    for minutes in range(25, 240, 25):  # somebody who works stays
        house.now_ns = lambda at=minutes: start + at * 60 * 10**9
        assert (await browser.get("/queue")).status_code == 200, minutes
    house.now_ns = lambda: start + 241 * 60 * 10**9
    assert (await browser.get("/queue")).status_code == 303

    house.now_ns = time.time_ns
    idle = await Browser(house).sign_in("bob")
    house.now_ns = lambda: start + 31 * 60 * 10**9
    assert (await idle.get("/queue")).status_code == 303


async def test_a_page_that_is_left_open_does_not_keep_its_owner_signed_in(house):
    house.terms = Terms(life_s=4 * 3600, idle_s=1800)
    browser = await Browser(house).sign_in("ann")
    waiting = house.opens()
    start = time.time_ns()
    for minutes in range(5, 30, 5):  # what moves elsewhere makes an open page fetch what it shows
        house.now_ns = lambda at=minutes: start + at * 60 * 10**9
        for path in ("/queue", f"/approvals/{waiting.id}?v=1", "/status"):
            part = await browser.get(path, **{"hx-request": "true"})
            assert part.status_code == 200 and "set-cookie" not in part.headers
    house.now_ns = lambda: start + 31 * 60 * 10**9
    assert (await browser.get("/queue", **{"hx-request": "true"})).status_code == 401
    assert (await browser.get("/queue")).status_code == 303


async def test_a_cookie_that_was_altered_is_none(house):
    browser = await Browser(house).sign_in("ann")
    whole = browser.http.cookies[COOKIE]
    for bad in (whole[:-2], "x" + whole[1:], "A" * 5000, "ä", ""):
        other = Browser(house)
        other.http.headers["cookie"] = f"{COOKIE}={bad}".encode().decode("latin-1")
        assert (await other.get("/queue")).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "", "origin": ""},  # neither is said
        {"sec-fetch-site": "", "origin": "http://evil.example"},
        {"sec-fetch-site": "", "origin": "null"},
    ],
)
async def test_a_form_of_another_page_does_nothing(house, headers):
    browser = await Browser(house).sign_in("ann")
    waiting = house.opens()
    said = {"version": "1", "digest": waiting.digest}
    answer = await browser.post(f"/approvals/{waiting.id}/approve", said, **headers)
    assert answer.status_code == 421
    assert house.store.show(waiting.id, "default").votes == []
    for path in ("/login", "/logout"):
        assert (await browser.post(path, {"key": house.minted["bob"].token}, **headers)).status_code == 421


async def test_a_browser_that_does_not_say_the_site_says_the_origin(house):
    browser = await Browser(house).sign_in("ann")
    waiting = house.opens()
    said = {"version": "1", "digest": waiting.digest}
    answer = await browser.post(
        f"/approvals/{waiting.id}/approve", said, **{"sec-fetch-site": "", "origin": BASE}
    )
    assert answer.status_code == 303


async def test_a_link_from_a_chat_arrives_although_the_cookie_is_strict(house):
    answer = await Browser(house).get("/approvals/abc?x=1", **{"sec-fetch-site": "cross-site"})
    assert answer.status_code == 200
    assert 'content="0;url=/console/approvals/abc?x=1"' in answer.text


async def test_every_answer_forbids_foreign_scripts_frames_and_caching(house):
    browser = await Browser(house).sign_in("ann")
    for path in ("/queue", "/login", "/nothing", "/queue.json"):
        headers = (await browser.get(path)).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff"
        assert headers.get_list("referrer-policy") == ["same-origin"]


async def test_json_twins_take_an_operator_key_and_writes_do_not(house):
    stranger = Browser(house)
    key = {"authorization": f"Bearer {house.minted['ann'].token}"}
    assert (await stranger.get("/queue.json", **key)).status_code == 200
    waiting = house.opens()
    said = {"version": "1", "digest": waiting.digest}
    answer = await stranger.post(f"/approvals/{waiting.id}/approve", said, **key)
    assert answer.status_code == 303 and "/console/login" in answer.headers["location"]
    assert house.store.show(waiting.id, "default").votes == []


async def test_the_stream_ends_when_its_owner_signs_out(house):
    browser = await Browser(house).sign_in("ann")
    events = []

    async def listen():
        async with browser.http.stream("GET", "/console/events") as answer:
            async for line in answer.aiter_lines():
                events.append(line)

    # ASGITransport gives a body when it is whole, so the stream must end for this to end.
    listening = asyncio.create_task(listen())
    await asyncio.sleep(0.2)
    house.revoke("ann")
    house.opens()
    async with asyncio.timeout(10):
        await listening
    assert "event: approvals" in events and events[-3] == "event: signed-out"


async def test_a_form_that_is_none_or_too_large_is_refused(house):
    browser = await Browser(house).sign_in("ann")
    path = f"/console/approvals/{house.opens().id}/approve"
    sent = {"sec-fetch-site": "same-origin", "origin": BASE}
    answer = await browser.http.post(path, json={}, headers=sent)
    assert answer.status_code == 422 and "Nothing was done" in answer.text
    answer = await browser.post(path.removeprefix("/console"), {"reason": "x" * 600_000})
    assert answer.status_code == 413
