"""What OAuth clients are told, and who is told nothing."""

from __future__ import annotations

import json
import time

import pytest

from gateway.config import AgentConfig, Config, ServerConfig
from gateway.config_identity import IdentityConfig, IssuerConfig
from gateway.config_upstream import UpstreamConfig
from gateway.errors import Unauthenticated
from gateway.identity.resource import Resource
from gateway.model import Presented
from tests.identity.issuing import AUDIENCE, KEY
from tests.identity.test_tokens import door

PUBLIC = {"server": ServerConfig(public_url="https://gateway.example.com")}
METADATA = "https://gateway.example.com/.well-known/oauth-protected-resource"


def resource(public="https://gw.example.com", metadata=True, **issuer) -> Resource:
    usual = {"issuer": "https://i.example", "audience": ("x",), "agent": "bot"}
    return Resource(
        Config(
            server=ServerConfig(public_url=public),
            upstreams={"files": UpstreamConfig(url="http://x")},
            agents={"bot": AgentConfig(owner="x")},
            identity=IdentityConfig(metadata=metadata, issuers={"corp": IssuerConfig(**{**usual, **issuer})}),
        )
    )


def test_each_endpoint_has_a_document_that_names_exactly_itself():
    found = resource(required_scopes=("call",), scopes={"write": ("writer",)}).documents
    assert sorted(found) == [
        f"/.well-known/oauth-protected-resource{path}" for path in ("", "/mcp", "/mcp/files")
    ]
    for path, document in found.items():
        said = json.loads(document)
        assert said["resource"] == "https://gw.example.com" + path.removeprefix(
            "/.well-known/oauth-protected-resource"
        )
        assert said["authorization_servers"] == ["https://i.example"]
        assert said["bearer_methods_supported"] == ["header"]
        assert said["scopes_supported"] == ["call", "write"]


def test_a_gateway_below_a_path_keeps_the_well_known_part_at_the_root():
    found = resource("https://gw.example.com/agents")
    assert "/.well-known/oauth-protected-resource/agents/mcp" in found.documents
    challenge = found.unauthenticated("/mcp", "")
    assert (
        'resource_metadata="https://gw.example.com/.well-known/oauth-protected-resource/agents/mcp"'
        in challenge
    )


def test_nothing_is_published_unless_it_is_switched_on_and_an_issuer_is_advertised():
    assert not resource(metadata=False) and not resource(advertise=False)
    assert resource(metadata=False).documents == {}


@pytest.mark.parametrize(
    "path", ["/mcp/nobody", '/mcp/"evil', "/mcp/..", "", "/v1/calls", "//evil.example/mcp"]
)
def test_a_path_a_client_made_up_is_in_no_challenge(path):
    found = resource().unauthenticated(path, "invalid_token")
    assert 'protected-resource/mcp"' in found or 'protected-resource"' in found
    assert "evil" not in found and "nobody" not in found


async def test_who_comes_without_a_credential_or_with_a_bad_token_is_told_where_to_get_one():
    async with door(required_scopes=("call",)) as corp:
        on = {"identity": None}
        usual = {
            "issuer": corp.idp.url,
            "audience": (AUDIENCE,),
            "agent_claim": "azp",
            "required_scopes": ("call",),
        }
        on["identity"] = IdentityConfig(metadata=True, issuers={"corp": IssuerConfig(**usual)})
        corp.load({**PUBLIC, **on})
        with pytest.raises(Unauthenticated) as nobody:
            await corp.authenticator.agent(Presented(path="/mcp"))
        assert nobody.value.challenge == f'Bearer resource_metadata="{METADATA}/mcp", scope="call"'
        expired = corp.idp.token(exp=int(time.time()) - 100)
        for token in (expired, corp.idp.token(iss="https://elsewhere.example"), corp.idp.token(KEY, aud="x")):
            challenge = (await corp.refused(token)).challenge
            assert (
                challenge == f'Bearer error="invalid_token", resource_metadata="{METADATA}/mcp", scope="call"'
            )
        corp.keyring.usable_until_ns = 1
        corp.keyring._began = time.monotonic() + 10**6  # and nothing is fetched
        unavailable = await corp.refused(corp.idp.token())
        assert (unavailable.code, unavailable.challenge) == ("issuer_unavailable", "")
        with pytest.raises(Unauthenticated) as static:
            await corp.authenticator.agent(Presented(b"Bearer wgk_0123456789abcdef_secret"))
        assert static.value.challenge == "", "a client with a static key would drop it"


async def test_a_token_without_a_scope_is_a_principal_that_calls_nothing_or_is_asked_for_more():
    async with door(required_scopes=("call", "files")) as corp:
        who = await corp.enter(corp.idp.token(scope="files other"))
        assert (who.agent, who.missing_scopes) == ("bot", ("call",))
        assert (await corp.enter(corp.idp.token(scope="files call"))).missing_scopes == ()
        corp.load(required_scopes=("call", "files"), step_up=True, scopes={"admin": ("admin",)})
        refused = await corp.refused(corp.idp.token(scope='admin files x"y'))
        assert refused.code == "insufficient_scope"
        assert refused.challenge == 'Bearer error="insufficient_scope", scope="call files admin"'
        assert (await corp.enter(corp.idp.token(scope="files call"))).agent == "bot"
