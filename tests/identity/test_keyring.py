"""Keys of an issuer are fetched from where the operator said and nowhere else, kept for a bounded time, and
never the reason for a flood."""

from __future__ import annotations

import asyncio
import json
import time

import jwt
import pytest
from aiohttp import web

from gateway.errors import Unauthenticated
from gateway.identity import jwks
from gateway.identity.keyring import MAX_WAITING
from tests.identity.issuing import KEY, OTHER, SigningKey, issuing
from tests.identity.test_tokens import Door, door

DISCOVERY = "/.well-known/openid-configuration"


def published(*keys: object) -> web.Response:
    return web.json_response({"keys": [key.jwk if isinstance(key, SigningKey) else key for key in keys]})


async def test_a_new_key_is_found_when_the_first_token_names_it_and_an_old_one_ends_when_it_goes():
    async with door() as corp:
        before = corp.idp.token()
        assert (await corp.enter(before)).agent == "bot"
        revision = corp.authenticator.revision
        corp.idp.keys = [KEY, OTHER]
        assert (await corp.enter(corp.idp.token(OTHER))).agent == "bot"
        assert (await corp.enter(before)).agent == "bot"
        assert corp.authenticator.revision != revision, "records say that the keys have changed"
        corp.idp.keys = [OTHER]
        await corp.keyring.refresh()
        assert await corp.code(before) == "bad_credential", "remembered, and its key is gone"
        assert (await corp.enter(corp.idp.token(OTHER))).agent == "bot"


async def test_a_key_replaced_under_its_own_name_no_longer_stands_for_what_it_signed():
    async with door() as corp:
        token = corp.idp.token()
        assert (await corp.enter(token)).agent == "bot"
        corp.idp.keys = [SigningKey("k1")]
        await corp.keyring.refresh()
        assert await corp.code(token) == "bad_credential"


async def test_tokens_with_made_up_keys_do_not_become_a_flood_against_the_issuer():
    async with door(refresh_least_s=60) as corp:
        assert (await corp.enter(corp.idp.token())).agent == "bot"
        made_up = [corp.idp.token(SigningKey(f"made-up-{number}"), jti=str(number)) for number in range(50)]
        codes = await asyncio.gather(*(corp.code(token) for token in made_up))
        assert set(codes) == {"bad_credential"}
        assert corp.idp.fetches == 1


async def test_nothing_is_fetched_for_a_token_that_no_key_could_make_good():
    async with door() as corp:
        assert (await corp.enter(corp.idp.token())).agent == "bot"
        asked = len(corp.idp.asked)
        assert await corp.code(corp.idp.token(SigningKey("other", "ES384"))) == "bad_credential"
        assert await corp.code(corp.idp.token(OTHER, iss="https://elsewhere.example")) == "wrong_issuer"
        assert len(corp.idp.asked) == asked


async def test_all_who_need_keys_wait_for_one_fetch():
    async with issuing() as idp:
        idp.delay_s = 0.1
        corp = Door(idp)
        tokens = [idp.token(jti=str(number)) for number in range(20)]
        who = await asyncio.gather(*(corp.enter(token) for token in tokens))
        assert {each.agent for each in who} == {"bot"}
        assert idp.fetches == 1
        await corp.authenticator.close()


async def test_only_so_many_strangers_may_wait_for_a_slow_issuer():
    async with issuing() as idp:
        idp.delay_s = 0.4
        corp = Door(idp, timeout_s=0.5)
        tokens = [idp.token(jti=str(number)) for number in range(MAX_WAITING + 10)]
        results = await asyncio.gather(*(corp.enter(token) for token in tokens), return_exceptions=True)
        refused = [each for each in results if isinstance(each, Unauthenticated)]
        assert {each.code for each in refused} == {"issuer_unavailable"}
        assert any("too many wait" in each.detail for each in refused)
        await corp.authenticator.close()


async def test_one_who_stops_waiting_does_not_end_the_fetch_for_others():
    async with issuing() as idp:
        idp.delay_s = 0.1
        corp = Door(idp)
        leaving = asyncio.create_task(corp.enter(idp.token(jti="a")))
        staying = asyncio.create_task(corp.enter(idp.token(jti="b")))
        await asyncio.sleep(0.05)
        leaving.cancel()
        assert (await staying).agent == "bot"
        await corp.authenticator.close()


async def test_the_last_good_keys_serve_for_a_bounded_time_while_the_issuer_is_down():
    async with door(refresh_s=60, stale_s=120, max_age_s=86_400) as corp:
        now = int(time.time())
        token = corp.idp.token(exp=now + 4000)
        assert (await corp.enter(token)).agent == "bot"
        corp.idp.answers["/jwks"] = lambda: web.Response(status=500)
        await corp.keyring.refresh()
        assert (corp.keyring.state(), "HTTP 500" in corp.keyring.failure) == ("fresh", True)
        corp.clock.ahead_s = 179
        assert (await corp.enter(corp.idp.token(jti="new", exp=now + 4000))).agent == "bot"
        assert corp.keyring.state() == "stale"
        corp.clock.ahead_s = 181
        refused = await corp.refused(token)
        assert (refused.code, "HTTP 500" in refused.detail) == ("issuer_unavailable", True)
        assert corp.keyring.state() == "unusable"
        corp.idp.answers.clear()
        await asyncio.sleep(0.01)
        assert (await corp.enter(token)).agent == "bot"


async def test_an_issuer_that_was_never_reached_is_a_refusal_and_is_asked_again():
    async with issuing() as idp:
        idp.answers["/jwks"] = lambda: web.Response(status=503)
        corp = Door(idp)
        assert await corp.code(idp.token()) == "issuer_unavailable"
        idp.answers.clear()
        await asyncio.sleep(0.05)
        assert (await corp.enter(idp.token())).agent == "bot"
        await corp.authenticator.close()


async def test_keys_are_fetched_on_schedule_without_any_token():
    async with door(refresh_s=0.05) as corp:
        async with asyncio.timeout(5):
            while corp.idp.fetches < 3:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda: web.Response(status=404), "HTTP 404"),
        (lambda: web.Response(status=204), "HTTP 204"),
        (lambda: web.Response(status=302, headers={"location": "/jwks2"}), "HTTP 302"),
        (lambda: web.Response(body=b'{"keys": [' + b" " * 300_000 + b"]}"), "more than"),
        (lambda: web.Response(body=b"<html>"), "malformed_json"),
        (lambda: web.Response(body=b'{"keys": [], "keys": []}'), "duplicate_key"),
        (lambda: web.Response(body=b"[]"), "not a JWK Set"),
        (lambda: web.Response(body=b'{"keys": {"k1": {}}}'), "not a JWK Set"),
        (lambda: web.Response(body=b'{"keys": [' + b"1," * 70 + b"1]}"), "more than 64"),
        (lambda: web.Response(body=b"{}", headers={"content-encoding": "gzip"}), "compressed"),
    ],
)
async def test_an_answer_that_is_no_set_of_keys_changes_nothing(answer, says):
    async with door() as corp:
        good = corp.idp.token()
        assert (await corp.enter(good)).agent == "bot"
        corp.idp.answers["/jwks"] = answer
        corp.idp.answers["/jwks2"] = lambda: published(OTHER)
        await corp.keyring.refresh()
        assert says in corp.keyring.failure
        assert (await corp.enter(good)).agent == "bot"
        assert await corp.code(corp.idp.token(OTHER)) == "bad_credential"
        assert "/jwks2" not in corp.idp.asked, "no redirect is followed"


async def test_a_slow_or_endless_answer_is_cut_off():
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.02)

    async with issuing() as idp:
        handle, idp.handle = idp.handle, endless  # type: ignore[method-assign]  # the route looks it up late
        corp = Door(idp, timeout_s=0.2)
        idp.delay_s = 5
        started = time.monotonic()
        assert await corp.code(idp.token()) == "issuer_unavailable"
        assert time.monotonic() - started < 2
        assert "no answer within 0.2 s" in corp.keyring.failure
        idp.handle = handle  # type: ignore[method-assign]
        await corp.authenticator.close()


async def test_an_issuer_that_takes_back_all_its_keys_is_believed():
    async with door() as corp:
        good = corp.idp.token()
        assert (await corp.enter(good)).agent == "bot"
        corp.idp.keys = []
        await corp.keyring.refresh()
        refused = await corp.refused(good)
        assert (refused.code, "no usable key" in refused.detail) == ("issuer_unavailable", True)


# -- discovery -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"issuer": "https://evil.example"}, "'issuer' is not the configured one"),
        ({"issuer": None}, "'issuer' is not the configured one"),
        ({"jwks_uri": None}, "missing or not https"),
        ({"jwks_uri": ["x"]}, "missing or not https"),
        ({"jwks_uri": "http://169.254.169.254/latest/meta-data"}, "missing or not https"),
        ({"jwks_uri": "https://elsewhere.example/jwks"}, "another origin"),
        ({"jwks_uri": "file:///etc/passwd"}, "missing or not https"),
        ({"jwks_uri": "http://user@127.0.0.1/jwks"}, "missing or not https"),
    ],
)
async def test_metadata_cannot_send_the_gateway_anywhere_else(change, says):
    async with issuing() as idp:
        idp.metadata |= change
        corp = Door(idp)
        assert await corp.code(idp.token()) == "issuer_unavailable"
        assert says in corp.keyring.failure
        assert idp.fetches == 0
        await corp.authenticator.close()


async def test_another_port_of_this_machine_is_another_origin():
    async with issuing() as idp, issuing([SigningKey("k1")]) as inside:
        idp.metadata["jwks_uri"] = f"{inside.url}/jwks"
        corp = Door(idp)
        assert await corp.code(idp.token()) == "issuer_unavailable"
        assert inside.asked == []
        corp.load(jwks_url=f"{inside.url}/jwks")  # said by the operator, it is right
        assert (await corp.enter(idp.token(inside.keys[0]))).agent == "bot"
        await corp.authenticator.close()


async def test_keys_come_from_a_file_as_well_and_are_read_again(tmp_path):
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [KEY.jwk]}))
    async with door(jwks_file=path) as corp:
        assert (await corp.enter(corp.idp.token())).agent == "bot"
        path.write_text(json.dumps({"keys": [OTHER.jwk]}))
        assert (await corp.enter(corp.idp.token(OTHER))).agent == "bot"
        assert await corp.code(corp.idp.token(KEY)) == "bad_credential"
        path.unlink()
        await corp.keyring.refresh()
        assert "No such file" in corp.keyring.failure
        assert corp.idp.asked == []


async def test_a_shared_secret_verifies_only_its_own_algorithm(monkeypatch):
    monkeypatch.setenv("WG_TEST_SECRET", "s" * 40)
    shared = SigningKey("any")
    shared.private, shared.algorithm = b"s" * 40, "HS256"
    async with door(algorithms=("HS256",), secret="${WG_TEST_SECRET}") as corp:
        assert (await corp.enter(corp.idp.token(shared))).agent == "bot"
        shared.private = b"t" * 40
        assert await corp.code(corp.idp.token(shared)) == "bad_credential"
        assert await corp.code(corp.idp.token(KEY)) == "bad_credential"
        assert corp.idp.asked == []


# -- which keys are used ---------------------------------------------------------------------------------


def usable(*jwk: object, algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")) -> jwks.KeySet:
    return jwks.parse(json.dumps({"keys": list(jwk)}).encode(), algorithms)


def test_a_key_that_is_weak_private_or_for_something_else_is_not_used():
    rsa, curve = SigningKey("r", "RS256"), SigningKey("e", "ES256")
    for good in (KEY.jwk, rsa.jwk, curve.jwk, {**rsa.jwk, "alg": None} | {"key_ops": ["verify"]}):
        assert len(usable({name: value for name, value in good.items() if value is not None}).keys) == 1
    bad = [
        {**KEY.jwk, "use": "enc"}, {**KEY.jwk, "key_ops": ["sign"]}, {**KEY.jwk, "key_ops": "verify"},
        {**KEY.jwk, "d": "AAAA"}, {**KEY.jwk, "alg": "ES256"}, {**KEY.jwk, "alg": 7}, {**KEY.jwk, "kid": 7},
        {**KEY.jwk, "x": "AAAA"}, {**KEY.jwk, "x": 7}, {**KEY.jwk, "crv": "Ed448"}, {**KEY.jwk, "kty": "EC"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k1"}, {"kty": "oct", "kid": "k1"}, {}, 7, None, "key",
        {**curve.jwk, "y": curve.jwk["x"]}, {**curve.jwk, "crv": "P-384"}, {**rsa.jwk, "e": ""},
        SigningKey("small", "RS256", bits=1024).jwk, SigningKey("p384", "ES384").jwk,
    ]  # fmt: skip
    for jwk in bad:
        found = usable(jwk)
        assert found.keys == () and len(found.dropped) == 1, jwk


def test_a_key_never_checks_a_signature_of_an_algorithm_it_was_not_published_for():
    rsa = SigningKey("r", "RS256")
    [key] = usable(rsa.jwk).keys
    made = {
        name: jwt.get_algorithm_by_name(name).sign(b"message", rsa.private) for name in ("RS256", "RS512")
    }
    assert key.signed("RS256", b"message", made["RS256"])
    assert not key.signed("RS256", b"massage", made["RS256"])
    assert not key.signed("RS512", b"message", made["RS512"]) and not key.signed("none", b"message", b"")


def test_which_key_a_token_means_never_depends_on_the_order_of_the_set():
    one, two = SigningKey("same"), SigningKey("same")
    assert usable(one.jwk, two.jwk).find("same", "EdDSA") is None
    assert usable(one.jwk, one.jwk).find("same", "EdDSA") is not None
    both = usable(one.jwk, SigningKey("same", "ES256").jwk)
    assert both.find("same", "EdDSA") != both.find("same", "ES256")
    assert usable(KEY.jwk, OTHER.jwk).find(None, "EdDSA") is None
    assert usable(KEY.jwk).find(None, "EdDSA") is not None
    nameless = SigningKey(None).jwk
    assert usable(nameless).find("k1", "EdDSA") is None


async def test_without_a_kid_a_token_is_believed_only_if_one_key_can_be_meant():
    async with door([SigningKey(None)]) as corp:
        assert (await corp.enter(corp.idp.token())).agent == "bot"
        corp.idp.keys.append(OTHER)
        await corp.keyring.refresh()
        assert await corp.code(corp.idp.token(jti="again")) == "bad_credential"


async def test_a_reload_that_changes_how_keys_are_fetched_stops_the_old_fetching():
    async with door() as corp:
        await corp.enter(corp.idp.token())
        old = corp.keyring
        corp.load(refresh_s=7)
        assert corp.keyring is not old
        await asyncio.sleep(0)
        assert old._loop is not None and (old._loop.cancelled() or old._loop.cancelling())
        assert (await corp.enter(corp.idp.token())).agent == "bot"
