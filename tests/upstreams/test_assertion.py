"""Assertions: with nothing but the public keys an upstream can tell what was decided from all else."""

from __future__ import annotations

import asyncio
import json
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import msgspec
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from gateway import strictjson
from gateway.config import AssertionConfig
from gateway.config_upstream import UpstreamConfig
from gateway.errors import ConfigError
from gateway.upstreams.mcp.shape import shape
from gateway.upstreams.registry import UpstreamRegistry
from gateway.upstreams.secrets import credentials, signing_keys
from gateway.upstreams.secrets.assertion import Signer
from tests.upstreams.conftest import SystemClock

DONE = b'{"content":[{"type":"text","text":"done"}]}'
HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "verify-assertions.md"
AUDIENCE = "https://billing.internal/mcp"


class Clock(SystemClock):
    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now_ns(self) -> int:
        return super().now_ns() + int(self.ahead_s * 1e9)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    signing_keys.save(path, [signing_keys.new(int(time.time()) - 1000)])
    return path


@pytest.fixture
def verifier() -> Callable[[dict[str, Any]], Any]:
    """``verifier(jwks)``: ``verified`` of the how-to as an upstream author would copy it."""

    def make(jwks: dict[str, Any]) -> Any:
        [code] = re.findall(r"```python\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
        scope: dict[str, Any] = {}
        exec(code, scope)

        class Published(jwt.PyJWKClient):
            def fetch_data(self) -> Any:
                return json.loads(json.dumps(jwks))

        scope["KEYS"] = Published("http://unused.invalid")
        return scope["verified"]

    return make


def signer(key_file: Path, clock: Any = None, **more: Any) -> Signer:
    return Signer(AssertionConfig(key_file=key_file, **more), clock or SystemClock())


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    return json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))


async def test_an_upstream_gets_and_verifies_what_was_decided(
    serve: Any, call: Any, modern: Any, principal: Any, key_file: Path, verifier: Any
) -> None:
    async def answer(exchange: Any) -> None:
        await exchange.result(DONE)

    server = await serve(modern(answer))
    upstreams = {
        "up": UpstreamConfig(url=server.url, assertion=True, audience=AUDIENCE),
        "plain": UpstreamConfig(url=server.url),
    }
    up = UpstreamRegistry(
        upstreams, clock=SystemClock(), result_bytes=1 << 20, assertion=AssertionConfig(key_file=key_file)
    )
    up.policy_revision = lambda: "rev-7"
    try:
        args = {"é": 1.0, "big": 2**60, "a": [None, True, "\u2028"], "nested": {"b": 1, "a": 1e21}}
        asked = call(args=args, who=principal("alice", subject="ada"))
        meta = b'{"dev.wardgate/assertion":"forged","vendor/x":1}'
        asked = msgspec.structs.replace(asked, client_meta_json=meta)
        assert (await up.execute(asked, None)).status == "ok"
        exchange = server.exchanges[-1]
        verified = verifier(up.jwks())
        sent = json.loads(exchange.body)["params"]
        token = exchange.header("wardgate-assertion")
        claims = verified(token, AUDIENCE, "up/echo", sent["arguments"])
        assert claims["exp"] - claims["iat"] <= 60 and abs(claims["iat"] - time.time()) < 5
        del claims["iat"], claims["exp"]
        assert claims == {
            "iss": "wardgate", "aud": AUDIENCE, "jti": asked.id, "tenant": "t", "agent": "alice",
            "owner": "o", "subject": "ada", "session": "", "kind": "tool", "target": "up/echo",
            "args_sha256": claims["args_sha256"], "digest": asked.digest, "policy": "rev-7",
        }  # fmt: skip
        assert "dev.wardgate/assertion" not in sent["_meta"] and sent["_meta"]["vendor/x"] == 1
        with pytest.raises(jwt.InvalidTokenError, match="before"):
            verified(token, AUDIENCE, "up/echo", sent["arguments"])
        # Who did not ask for it does not get it, and neither does discovery.
        await up.execute(call("plain"), None)
        others = [each for each in server.exchanges if each is not exchange]
        assert len(others) >= 2
        assert not [each for each in others if each.header("wardgate-assertion")]
    finally:
        await up.close()


async def test_everything_else_is_refused(call: Any, key_file: Path, tmp_path: Path, verifier: Any) -> None:
    mine = signer(key_file)
    asked = call(args={"amount": 5})
    token = mine.sign(asked, AUDIENCE, "")
    head, body, signature = token.split(".")

    def refuses(token: str, audience: str = AUDIENCE, target: str = "up/echo", args: Any = None) -> None:
        with pytest.raises(jwt.PyJWTError):
            verifier(mine.jwks())(token, audience, target, args or {"amount": 5})

    assert verifier(mine.jwks())(token, AUDIENCE, "up/echo", {"amount": 5})
    refuses(token, audience="https://other.internal/mcp")
    refuses(token, target="up/pay")
    refuses(token, args={"amount": 50})
    for claim, value in {"agent": "mallory", "exp": 2**40, "aud": "x"}.items():
        changed = json.dumps({**claims_of(token), claim: value}).encode()
        refuses(f"{head}.{urlsafe_b64encode(changed).rstrip(b'=').decode()}.{signature}")
    refuses(f"{head}.{body}.{signature[:-4]}AAAA")
    refuses(f"{head}.{body}.")
    nothing = urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    refuses(f"{nothing}.{body}.")
    other = tmp_path / "other.json"
    signing_keys.save(other, [signing_keys.new(0)])
    refuses(signer(other).sign(asked, AUDIENCE, ""))
    old = Clock()
    old.ahead_s = -120
    refuses(signer(key_file, old).sign(asked, AUDIENCE, ""))
    skewed = Clock()
    skewed.ahead_s = -65  # expired five seconds ago by the upstream's clock: within its leeway
    assert verifier(mine.jwks())(
        signer(key_file, skewed).sign(asked, AUDIENCE, ""), AUDIENCE, "up/echo", {"amount": 5}
    )


async def test_the_signature_is_plain_ed25519_over_the_token(call: Any, key_file: Path) -> None:
    """Checked without a JWT library, so that the token is what RFC 8037 says and not what ours reads."""
    mine = signer(key_file)
    token = mine.sign(call(), AUDIENCE, "")
    signed, _, signature = token.rpartition(".")
    [jwk] = mine.jwks()["keys"]
    public = Ed25519PublicKey.from_public_bytes(urlsafe_b64decode(jwk["x"] + "="))
    public.verify(urlsafe_b64decode(signature + "=="), signed.encode())
    head = json.loads(urlsafe_b64decode(signed.split(".")[0] + "=="))
    assert head == {"alg": "EdDSA", "kid": jwk["kid"], "typ": "JWT"}
    assert set(jwk) == {"kty", "crv", "x", "kid", "alg", "use"}, "nothing private"


async def test_a_child_gets_it_in_meta_under_our_own_name(
    child: Any, call: Any, key_file: Path, verifier: Any
) -> None:
    up = UpstreamRegistry(
        {"up": child("legacy.py", assertion=True, audience="stdio:billing")},
        clock=SystemClock(), result_bytes=1 << 20, assertion=AssertionConfig(key_file=key_file),
    )  # fmt: skip
    try:
        for meta in (b"", b'{"vendor/x":1,"dev.wardgate/assertion":"forged"}'):
            outcome = await up.execute(call(name="params", args={"a": 1}, client_meta_json=meta), None)
            params = json.loads(json.loads(outcome.result_json)["content"][0]["text"])
            token = params["_meta"]["dev.wardgate/assertion"]
            assert verifier(up.jwks())(token, "stdio:billing", "up/params", params["arguments"])
    finally:
        await up.close()


_TEXT = st.text(st.characters(codec="utf-8"))
_KEY = st.text(st.characters(codec="utf-8", max_codepoint=0xFFFF))
_NUMBER = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
_JSON = st.recursive(
    st.none() | st.booleans() | _NUMBER | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEY, inner, max_size=4),
    max_leaves=12,
)


@given(_JSON)
def test_sorting_as_the_how_to_does_gives_the_bytes_that_were_sent(value: Any) -> None:
    sent = strictjson.canonical({"value": value})
    assert orjson.dumps(orjson.loads(sent), option=orjson.OPT_SORT_KEYS) == sent


# -------------------------------------------------------------------------------------------- keys


async def test_rotation_overlaps_so_that_cached_keys_verify_all_along(
    call: Any, key_file: Path, verifier: Any
) -> None:
    clock = Clock()
    before = signing_keys.load(key_file)
    cached = signer(key_file, clock).jwks()
    now = int(time.time())
    signing_keys.save(key_file, signing_keys.rotated(before, now, lead_s=600, keep_s=600))
    mine = signer(key_file, clock)
    used = []
    for ahead in (0, 599, 601, 1199, 1300):
        clock.ahead_s = ahead
        token = mine.sign(call(), AUDIENCE, "")
        kid = jwt.get_unverified_header(token)["kid"]
        used.append(kid)
        published = cached if ahead < 600 else mine.jwks()  # read again within the lead
        assert kid in [key["kid"] for key in published["keys"]]
        assert len(mine.jwks()["keys"]) == (2 if ahead < 1200 else 1)
    assert used[0] == used[1] == before[0].kid != used[2] == used[3] == used[4]


async def test_the_running_gateway_reads_changed_keys_and_keeps_the_last_good(
    serve: Any, call: Any, modern: Any, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "LOOK_S", 0.02)

    async def answer(exchange: Any) -> None:
        await exchange.result(DONE)

    server = await serve(modern(answer))
    up = UpstreamRegistry(
        {"up": UpstreamConfig(url=server.url, assertion=True)},
        clock=SystemClock(), result_bytes=1 << 20, assertion=AssertionConfig(key_file=key_file),
    )  # fmt: skip
    await up.start()
    try:
        made = signing_keys.new(int(time.time()) - 1)
        signing_keys.save(key_file, [made])
        await asyncio.sleep(0.3)
        key_file.write_text("{")
        await asyncio.sleep(0.3)
        assert (await up.execute(call(), None)).status == "ok"
        token = server.exchanges[-1].header("wardgate-assertion")
        assert jwt.get_unverified_header(token)["kid"] == made.kid
        signing_keys.save(key_file, [signing_keys.new(int(time.time()) + 1000)])
        await asyncio.sleep(0.3)
        refused = await up.execute(call(), None)
        assert (refused.status, refused.code) == ("not_sent", "credential_unavailable")
    finally:
        await up.close()


@pytest.mark.parametrize("spoil", [
    lambda path: path.unlink(),
    lambda path: path.chmod(0o640),
    lambda path: path.write_text(""),
    lambda path: path.write_text('{"keys": []}'),
    lambda path: path.write_text(json.dumps({"keys": json.loads(path.read_text())["keys"] * 2})),
    lambda path: path.write_text(path.read_text().replace('"x": "', '"x": "A')),
    lambda path: path.write_text(re.sub(r'"d": "[^"]*"', '"d": "AAAA"', path.read_text())),
    lambda path: path.write_text(re.sub(r'"d": "[^"]*"', f'"d": "{_other()}"', path.read_text())),
    lambda path: path.write_text("x" * 100_000),
])  # fmt: skip
def test_keys_that_are_weak_or_unclear_are_refused_without_being_quoted(
    key_file: Path, spoil: Callable[[Path], Any]
) -> None:
    private = json.loads(key_file.read_text())["keys"][0]["d"]
    spoil(key_file)
    with pytest.raises(ConfigError) as refused:
        signing_keys.load(key_file)
    assert private not in str(refused.value)


def _other() -> str:
    return urlsafe_b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).rstrip(b"=").decode()


def test_a_key_file_is_private_from_its_first_moment(key_file: Path) -> None:
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in key_file.parent.iterdir()] == [key_file.name]


def test_a_request_without_an_assertion_is_what_it_was(call: Any) -> None:
    assert shape(call()).headers == b""


def test_each_input_round_of_a_call_has_an_assertion_of_its_own(call: Any, key_file: Path) -> None:
    """People take longer than a minute to answer, and a server must not take the answers for a replay."""
    mine = signer(key_file)
    ids = [claims_of(mine.sign(call(), AUDIENCE, "", number))["jti"] for number in range(3)]
    assert ids == ["call-1", "call-1.1", "call-1.2"]
