"""Envoy's ext_authz contract, with requests shaped as Envoy's HTTP client sends them."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config_upstream import RouteConfig
from gateway.errors import Refused
from gateway.surfaces.http import extauthz
from tests.surfaces.http.support import Client, client, configured

SHOP = "/v1/ext_authz/shop"


async def ask(agent: Client, method: str, target: str, body: bytes | None = None, **more: str):
    """What Envoy sends: the request's own method, path behind the prefix, host and authorization."""
    headers = {"host": "api.shop.example", "x-forwarded-for": "203.0.113.9"}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    if body is not None:
        headers["content-type"] = headers.get("content-type", "application/json")
    return await agent.send(method, SHOP + target, body, headers)


async def test_an_allowed_request_goes_on_with_the_id_of_its_decision(alice, gateway):
    got = await ask(alice, "POST", "/payments/p-1?dry=1", b'{"amount": 5}')
    assert got.status == 200 and got.raw == b""
    decision_id = got.headers["x-wardgate-decision-id"]
    records = [r for r in gateway.records() if r["call_id"] == decision_id]
    assert [r["phase"] for r in records] == ["intent", "result"]
    assert records[0]["target"] == "shop/pay" and records[0]["surface"] == "extauthz"
    assert records[1]["status"] == "unobserved", "nobody will say what became of it, and the record says so"


async def test_a_refused_request_gets_403_a_reason_and_words(alice):
    got = await ask(alice, "POST", "/payments/p-1", b'{"forbidden": true}')
    assert got.status == 403 and got.code == "over_limit"
    assert got.headers["x-wardgate-reason"] == "over_limit" and got.headers["x-wardgate-decision-id"]


async def test_the_key_may_come_in_a_header_of_its_own(alice):
    key, alice.key = alice.key, ""
    got = await ask(alice, "GET", "/payments", authorization="Basic b3RoZXI6eA==")
    assert got.status == 401
    got = await ask(
        alice,
        "GET",
        "/payments",
        authorization="Basic b3RoZXI6eA==",
        x_wardgate_authorization=f"Bearer {key}",
    )
    assert got.status == 200


async def test_identical_requests_are_no_repetition_of_a_call_in_doubt(alice):
    for _ in range(3):
        assert (await ask(alice, "POST", "/payments/p-2", b'{"amount": 1}')).status == 200


async def test_an_effect_key_is_given_out_once_although_nobody_reports(alice):
    assert (await ask(alice, "POST", "/refunds/r-1")).status == 200
    got = await ask(alice, "POST", "/refunds/r-1")
    assert got.status == 403 and got.headers["x-wardgate-reason"] == "duplicate_effect"


async def test_after_a_restart_an_effect_key_that_was_given_out_stays_given_out(tmp_path, server):
    wardgate = configured(tmp_path / "own", server)
    try:
        wardgate.start()
        async with client(wardgate, "alice") as agent:
            assert (await ask(agent, "POST", "/refunds/r-7")).status == 200
            wardgate.kill()
            await asyncio.to_thread(wardgate.start)
            got = await ask(agent, "POST", "/refunds/r-7")
            assert got.status == 403 and got.code == "duplicate_effect"
        assert not wardgate.in_doubt()
    finally:
        wardgate.close()


async def test_policy_cannot_change_a_request_so_it_is_refused(alice, gateway):
    got = await ask(alice, "POST", "/payments/p-3", b'{"amount": 500}')
    assert got.status == 403 and got.code == "obligation_conflict"
    records = [r for r in gateway.records() if r["call_id"] == got.headers["x-wardgate-decision-id"]]
    assert records[-1]["phase"] == "not_sent"


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("DELETE", "/payments/p-1"),
        ("GET", "/payments/p-1"),
        ("POST", "/other"),
        ("GET", "/payments/"),
        ("HEAD", "/"),
    ],
)
async def test_a_request_without_a_route_is_refused(alice, method, target):
    got = await ask(alice, method, target)
    assert got.status == 403 and got.headers["x-wardgate-reason"] in ("no_route", "invalid_request")


@pytest.mark.parametrize("upstream", ["laptop", "counting", "nowhere", "shop%2f..", "..", "Shop", ""])
async def test_only_upstreams_with_routes_are_asked_about(alice, upstream):
    got = await alice.send("GET", f"/v1/ext_authz/{upstream}/payments")
    assert got.status in (403, 404)


@pytest.mark.parametrize(
    "target",
    [
        "/payments/..%2fadmin",
        "/payments/%2e%2e/admin",
        "/payments/..;/admin",
        "/payments/p;x=1",
        "/payments/%252e%252e",
        "/payments/a%5cb",
        "/payments/a%00b",
        "/payments/a%0d%0aX-Injected:1",
        "/payments/%ff",
        "/payments//p-1",
        "//payments/p-1",
        "/./payments/p-1",
        "/payments/p-1%",
        "/payments/p-1?x=1&x=2",
        "/payments/p-1?id=other",
        "/payments/p-1?a=1;b=2",
        "/payments/p-1?x=%ff",
        "/payments/p-1?%00",
        "/payments/" + "x" * 9000,
    ],
)
async def test_a_path_that_can_be_read_in_two_ways_is_refused(alice, target):
    got = await ask(alice, "POST", target, b"{}")
    assert got.status == 403
    assert got.headers["x-wardgate-reason"] in ("invalid_request", "too_large", "no_route")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"id": "other"}', {}),
        (b'{"a": 1, "a": 2}', {}),
        (b"[1]", {}),
        (b"", {}),
        (b"{", {}),
        (b"a=1", {"content-type": "application/x-www-form-urlencoded"}),
        (b"{}", {"content-type": ""}),
        (b"{}", {"x-envoy-auth-partial-body": "true"}),
        (b"{}", {"content-encoding": "gzip"}),
    ],
)
async def test_a_body_that_does_not_say_all_is_refused(alice, body, headers):
    got = await ask(
        alice, "POST", "/payments/p-9", body, **{k.replace("-", "_"): v for k, v in headers.items()}
    )
    assert got.status == 403


async def test_a_body_where_none_belongs_is_refused(alice):
    assert (await ask(alice, "POST", "/refunds/r-9", b'{"amount": 1}')).status == 403
    assert (await ask(alice, "POST", "/payments/p-1", b"{}", x_envoy_auth_partial_body="false")).status == 200


async def test_a_refusal_says_nothing_of_the_request(alice):
    got = await ask(alice, "POST", "/payments/p-1?x=1&x=hunter2", b"{}")
    assert "hunter2" not in got.raw.decode()


# ------------------------------------------------------------------------------------ the pieces

ROUTES = [
    RouteConfig(method="GET", path="/a/{x}/b", tool="t"),
    RouteConfig(method="GET", path="/a/c/b", tool="u"),
]


def test_the_first_route_that_fits_is_taken():
    found = extauthz.match(ROUTES, "GET", ["a", "c", "b"])
    assert found is not None and found[0].tool == "t" and found[1] == {"x": "c"}
    assert extauthz.match(ROUTES, "GET", ["a", "b"]) is None


@given(st.text(alphabet="/.%25ef;\\ab?&=", max_size=30))
def test_whatever_is_accepted_has_one_reading(text):
    try:
        _, segments, query = extauthz.split(b"/v1/ext_authz/up/" + text.encode(), b"")
    except Refused:
        return
    # Splitting first or decoding first gives the same segments, and decoding twice what decoding once does.
    from urllib.parse import unquote

    assert unquote(text).split("/") == segments or (text == "" and segments == [])
    assert [unquote(segment) for segment in segments] == segments
    assert not {"", ".", ".."} & set(segments) and query == []


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_no_bytes_make_it_fail(path, query):
    try:
        extauthz.split(b"/v1/ext_authz/" + path, query)
    except Refused as refused:
        assert refused.code in ("invalid_request", "too_large")


@given(st.lists(st.tuples(st.text("abc", min_size=1, max_size=3), st.text(max_size=5)), max_size=5))
def test_what_is_added_is_all_there_or_refused(pairs):
    args: dict = {}
    try:
        extauthz._add(args, pairs)
    except Refused:
        assert len({name for name, _ in pairs}) < len(pairs)
    else:
        assert json.dumps(sorted(args.items())) == json.dumps(sorted(pairs))
