"""What a proxy says about a client certificate is believed from the proxy alone, and read strictly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import AgentConfig, Config
from gateway.config_identity import IdentityConfig, ProxyConfig
from gateway.errors import Unauthenticated
from gateway.identity import keys
from gateway.identity.authenticator import Authenticator, Stored
from gateway.identity.directory import Directory
from gateway.identity.proxy import fields
from gateway.model import Presented
from gateway.storage.credentials import Credentials
from gateway.storage.database import Database

AGENTS = {"bot": AgentConfig(owner="team-a"), "clerk": AgentConfig(owner="team-b")}
SPIFFE = "spiffe://corp.example/ns/agents/sa/bot"
DN = "CN=clerk,OU=Agents,O=Corp"
SUBJECTS = {SPIFFE: "bot", DN: "clerk", "plain-bot": "bot"}
PROXY = ("10.1.2.3", 40_000)
SECRET = "proxy-secret-proxy-secret-proxy-secret"


def authenticator(stored=(), **proxy) -> Authenticator:
    made = Authenticator(Directory(lambda: 0))
    usual = {"networks": ("10.1.2.0/24", "fd00::/64"), "subjects": SUBJECTS}
    section = IdentityConfig(proxy=ProxyConfig(**{**usual, **proxy}))
    made.load(Stored(stored), Config(agents=AGENTS, identity=section))
    return made


def xfcc(value: str | bytes, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    raw = value if isinstance(value, bytes) else value.encode()
    return [(b"host", b"gw"), (b"x-forwarded-client-cert", raw), *more]


async def code(made: Authenticator, headers, peer=PROXY, authorization=None) -> str:
    with pytest.raises(Unauthenticated) as refused:
        await made.agent(Presented(authorization, headers, peer))
    return refused.value.code


async def test_the_proxy_names_the_agent_by_uri_or_by_distinguished_name():
    made = authenticator()
    said = f'By=spiffe://corp.example/gw;Hash=468ed33b;Subject="{DN}";URI={SPIFFE}'
    who = await made.agent(Presented(None, xfcc(said), PROXY))
    assert (who.agent, who.subject, who.credential.startswith("mtls:")) == ("bot", None, True)
    by_name = authenticator(field="subject")
    assert (await by_name.agent(Presented(None, xfcc(said), PROXY))).agent == "clerk"
    plain = authenticator(format="plain", header="x-client-id")
    headers = [(b"x-client-id", b" plain-bot ")]
    assert (await plain.agent(Presented(None, headers, PROXY))).agent == "bot"
    assert (await made.agent(Presented(None, xfcc(f"URI={SPIFFE}"), ("fd00::7", 1)))).agent == "bot"
    assert (await made.agent(Presented(None, xfcc(f"URI={SPIFFE}"), ("::ffff:10.1.2.9", 1)))).agent == "bot"


@pytest.mark.parametrize(
    "peer", [("10.1.3.1", 1), ("127.0.0.1", 1), ("fd01::1", 1), ("", 0), ("/run/x", 0), None]
)
async def test_from_anybody_else_the_header_is_refused_and_forwarded_addresses_change_nothing(peer):
    lies = ((b"x-forwarded-for", b"10.1.2.3"), (b"forwarded", b"for=10.1.2.3"), (b"x-real-ip", b"10.1.2.3"))
    assert await code(authenticator(), xfcc(f"URI={SPIFFE}", *lies), peer) == "untrusted_proxy"


async def test_where_no_proxy_is_configured_the_header_means_nothing():
    made = Authenticator(Directory(lambda: 0))
    made.load(Stored(()), Config(agents=AGENTS))
    assert await code(made, xfcc(f"URI={SPIFFE}")) == "no_credential"


async def test_two_headers_are_two_stories():
    made = authenticator()
    again = (b"x-forwarded-client-cert", f"URI={SPIFFE}".encode())
    assert await code(made, xfcc(f"URI={SPIFFE}", again)) == "untrusted_proxy"


async def test_the_shared_secret_must_come_once_and_be_right(monkeypatch):
    monkeypatch.setenv("WG_PROXY_SECRET", SECRET)
    made = authenticator(secret="${WG_PROXY_SECRET}")
    right = (b"x-wardgate-proxy-secret", SECRET.encode())
    wrong = (b"x-wardgate-proxy-secret", SECRET[:-1].encode())
    assert (await made.agent(Presented(None, xfcc(f"URI={SPIFFE}", right), PROXY))).agent == "bot"
    for more in ((), (wrong,), (right, right), (wrong, right), ((b"x-wardgate-proxy-secret", b"\xff"),)):
        assert await code(made, xfcc(f"URI={SPIFFE}", *more)) == "untrusted_proxy"
    assert await code(made, xfcc(f"URI={SPIFFE}", right), ("10.9.9.9", 1)) == "untrusted_proxy"


@pytest.mark.parametrize(
    "said",
    [
        b"", b" ", b";", b"=", b"URI", b"URI=", b"URI=;", f"URI={SPIFFE};".encode(),
        f";URI={SPIFFE}".encode(),
        f"URI={SPIFFE},URI={SPIFFE}".encode(), f"URI={SPIFFE},By=x".encode(),
        f"URI={SPIFFE};URI=spiffe://x".encode(),
        f'Subject="{DN}"'.encode(), f'Subject="a";Subject="{DN}";URI={SPIFFE}'.encode(),
        f"Evil=x;URI={SPIFFE}".encode(), f'URI="{SPIFFE}'.encode(), f'URI={SPIFFE}"'.encode(),
        f'URI="{SPIFFE}"x'.encode(), f"URI ={SPIFFE}".encode(), f"URI= {SPIFFE};x".encode(), b"URI=\xff\xfe",
        f"URI={SPIFFE}\x00".encode(), f'URI="{SPIFFE}\\'.encode(), b"URI=" + b"x" * 10_000,
        f'Hash=1;Hash=2;URI={SPIFFE}'.encode(), f'URI="{SPIFFE}\\n"'.encode(),
    ],
)  # fmt: skip
async def test_what_is_not_exactly_one_well_formed_element_is_refused(said):
    assert await code(authenticator(), xfcc(said)) == "bad_credential"


@pytest.mark.parametrize(
    "uri", [SPIFFE + "/", SPIFFE.upper(), SPIFFE + "%2f", "spiffe://corp.example", " " + SPIFFE]
)
async def test_a_subject_is_compared_exactly(uri):
    assert await code(authenticator(), xfcc(f'URI="{uri}"')) == "unknown_agent"


async def test_a_key_beside_a_certificate_must_be_of_the_same_agent(tmp_path):
    with Database(tmp_path / "k.db").open() as database:
        store = Credentials(database)
        minted = {name: keys.mint(store, kind="agent", tenant="default", name=name) for name in AGENTS}
        made = authenticator(stored=store.list())
    header = {name: f"Bearer {each.token}".encode() for name, each in minted.items()}
    who = await made.agent(Presented(header["bot"], xfcc(f"URI={SPIFFE}"), PROXY))
    assert who.credential == minted["bot"].credential.id
    assert await code(made, xfcc(f"URI={SPIFFE}"), authorization=header["clerk"]) == "bad_credential"
    # A bad key is not made good by a certificate, nor an unknown certificate by a good key.
    assert await code(made, xfcc(f"URI={SPIFFE}"), authorization=b"Bearer wgk_x_y") == "bad_credential"
    assert await code(made, xfcc("URI=spiffe://x"), authorization=header["bot"]) == "unknown_agent"
    assert await code(made, xfcc(f"URI={SPIFFE}"), ("9.9.9.9", 1), header["bot"]) == "untrusted_proxy"
    assert (await made.agent(Presented(header["bot"], (), ("9.9.9.9", 1)))).agent == "bot"


@given(st.text(max_size=80) | st.text(alphabet='URISubjectByHash=;,"\\ x', max_size=60))
def test_any_text_is_fields_or_a_refusal(text):
    try:
        found = fields(text)
    except Unauthenticated:
        return
    assert found and all(isinstance(value, str) and value for values in found.values() for value in values)


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_a_quoted_value_is_read_back_as_it_was(value):
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    assert fields(f'Hash=1;Subject="{quoted}"')["subject"] == (value,)
