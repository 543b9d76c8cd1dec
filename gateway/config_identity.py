"""``identity`` of ``wardgate.yaml``: whose tokens are believed, and what a trusted proxy may say.

Weak settings do not start: an issuer without TLS, a token for nobody in particular, a short shared secret,
a symmetric algorithm beside public keys.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, field_validator, model_validator

from gateway.section import Name, Seconds, Section

AlgorithmName = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256"
]
Text = Annotated[str, Field(min_length=1, max_length=500)]
Scope = Annotated[str, Field(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,200}$")]  # RFC 6749, appendix A.4
HeaderName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]

LEAST_SECRET: Final = 32  # bytes


class IssuerConfig(Section):
    """An OAuth or OIDC issuer whose access tokens (JWT) stand for agents."""

    issuer: Text = Field(description="The `iss` of its tokens, compared exactly. https, or http on loopback.")
    audience: tuple[Text, ...] = Field(
        min_length=1, description="Values of `aud` that mean this gateway; a token must carry one of them."
    )
    jwks_url: Text | None = Field(
        None,
        description="Where its keys are. Without it they are found by OIDC discovery at the issuer, and must "
        "then be on the issuer's own origin.",
    )
    jwks_file: Path | None = Field(None, description="A file with its keys (JWKS), instead of the network.")
    ca_file: Path | None = Field(
        None, description="Authorities (PEM) that vouch for the issuer's TLS, instead of the usual ones."
    )
    secret: Text | None = Field(
        None,
        description="Shared secret for HS256, at least 32 bytes; ${NAME} expands. Only with "
        "`algorithms: [HS256]`.",
    )
    algorithms: tuple[AlgorithmName, ...] = Field(
        ("RS256", "ES256", "EdDSA"),
        min_length=1,
        description="Signature algorithms it may use; others are refused.",
    )
    agent: Name | None = Field(None, description="The agent that every token of this issuer is.")
    agent_claim: Text | None = Field(
        None,
        description="The claim that names the agent, such as azp, client_id or sub; a JSON pointer such as "
        "/act/sub reaches into objects.",
    )
    agents: dict[Text, Name] = Field(
        default_factory=dict,
        description="Agents by the value of `agent_claim`. Without it the value is the agent's name, which "
        "is right only where nobody can choose it.",
    )
    tenant: Name = Field("default", description="The tenant whose agents it may name.")
    subject: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Whether `subject_claim` is an end user: auto, unless it is the client itself or names "
        "the agent.",
    )
    subject_claim: Text = Field("sub", description="The claim that names the end user.")
    subject_prefix: str | None = Field(
        None,
        max_length=64,
        description="What stands before a user's or actor's name in records and policy, so that those of "
        "two issuers never meet; the issuer's name here and a colon when not set.",
    )
    mandate_claim: Text | None = Field(
        None,
        description="The claim, or JSON pointer to it, with what a token delegates: an object with the `id` "
        "of a session and its `mandate`. Without it tokens delegate nothing.",
    )
    build_claim: Text | None = Field(
        None,
        description="The claim, or JSON pointer to it, that says what the agent is: an object with the "
        "hashes `model`, `prompt` and `tools`. Without it tokens say nothing of it.",
    )
    scopes_claim: Text = Field(
        "scope", description="The claim with the scopes: a list, or words in a string."
    )
    scopes: dict[Scope, tuple[Text, ...]] = Field(
        default_factory=dict, description="Labels for policy that a scope adds to the agent's own."
    )
    required_scopes: tuple[Scope, ...] = Field(
        (), description="Scopes a token must carry to call anything; without them calls are refused."
    )
    step_up: bool = Field(
        False,
        description="Answer a token that lacks a required scope with HTTP 403 and a challenge, for clients "
        "that can ask for more, instead of refusing each call.",
    )
    advertise: bool = Field(
        True, description="Name this issuer in the resource metadata, when `identity.metadata` is on."
    )
    require_at_jwt: bool = Field(False, description="Refuse tokens whose `typ` is not at+jwt (RFC 9068).")
    leeway_s: float = Field(30.0, ge=0, le=300, description="Difference of clocks that is forgiven.")
    max_age_s: float = Field(86_400.0, gt=0, le=2_592_000, description="Oldest token believed, by its `iat`.")
    max_chain: int = Field(4, ge=0, le=16, description="Longest chain of actors (`act`) accepted.")
    refresh_s: Seconds = Field(300.0, description="How often keys are fetched.")
    refresh_least_s: Seconds = Field(
        10.0, description="Least time between two fetches, whatever tokens with unknown keys come in."
    )
    stale_s: float = Field(
        3600.0,
        ge=0,
        le=604_800,
        description="How long keys stay in use beyond that while none can be fetched.",
    )
    timeout_s: float = Field(5.0, gt=0, le=60, description="Time for one fetch.")

    @field_validator("issuer", "jwks_url")
    @classmethod
    def _secure(cls, value: str | None) -> str | None:
        if value is not None:
            secure_url(value)
        return value

    @model_validator(mode="after")
    def _fits(self) -> IssuerConfig:
        if sum(source is not None for source in (self.jwks_url, self.jwks_file, self.secret)) > 1:
            raise ValueError("give at most one of 'jwks_url', 'jwks_file' and 'secret'")
        if (self.secret is not None) != ("HS256" in self.algorithms):
            raise ValueError("HS256 needs 'secret', and 'secret' needs HS256")
        # With both kinds a public key could be taken for the shared secret.
        if "HS256" in self.algorithms and len(self.algorithms) > 1:
            raise ValueError("HS256 cannot be mixed with other algorithms")
        if (self.agent is None) == (self.agent_claim is None):
            raise ValueError("give exactly one of 'agent' and 'agent_claim'")
        if self.agents and self.agent_claim is None:
            raise ValueError("'agents' needs 'agent_claim'")
        if self.step_up and not self.required_scopes:
            raise ValueError("'step_up' needs 'required_scopes'")
        return self

    def prefix(self, name: str) -> str:
        return f"{name}:" if self.subject_prefix is None else self.subject_prefix


class ProxyConfig(Section):
    """A TLS proxy that checks client certificates and says in a header whose one it was."""

    networks: tuple[str, ...] = Field(
        (),
        description="Addresses of the proxy, such as 10.0.3.0/28; the header is refused from anybody else. "
        "Without it the header is never read.",
    )
    header: HeaderName = Field(
        "x-forwarded-client-cert", description="The header that says whose certificate."
    )
    format: Literal["xfcc", "plain"] = Field(
        "xfcc", description="Envoy's list of fields with exactly one element, or the subject as it is."
    )
    field: Literal["uri", "subject"] = Field("uri", description="The field of xfcc that names the caller.")
    secret_header: HeaderName = Field(
        "x-wardgate-proxy-secret", description="The header that carries the secret, when there is one."
    )
    secret: Text | None = Field(
        None, description="What the proxy must also send, at least 32 bytes; ${NAME} expands."
    )
    subjects: dict[Text, Name] = Field(
        default_factory=dict,
        description="Agents by the subject: a SPIFFE id, or a distinguished name as the proxy writes it.",
    )

    @field_validator("networks")
    @classmethod
    def _bounded(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            network = ipaddress.ip_network(each)
            # Whoever can connect would be whoever they say they are.
            if network.prefixlen == 0:
                raise ValueError(f"{each} is everybody")
        return value

    @model_validator(mode="after")
    def _fits(self) -> ProxyConfig:
        if bool(self.networks) != bool(self.subjects):
            raise ValueError("give both 'networks' and 'subjects', or neither")
        if self.header == "authorization" or self.secret_header in ("authorization", self.header):
            raise ValueError("'header' and 'secret_header' must be headers of their own")
        return self


class IdentityConfig(Section):
    metadata: bool = Field(
        False,
        description="Publish resource metadata (RFC 9728) and point to it in challenges, for clients that "
        "sign in by OAuth. Some clients then ignore a static key they were given.",
    )
    issuers: dict[Name, IssuerConfig] = Field(default_factory=dict)
    proxy: ProxyConfig = ProxyConfig()

    @model_validator(mode="after")
    def _apart(self) -> IdentityConfig:
        by_iss: dict[str, str] = {}
        by_prefix: dict[str, str] = {}
        for name, each in self.issuers.items():
            if (other := by_iss.setdefault(each.issuer, name)) != name:
                raise ValueError(f"issuers '{other}' and '{name}' are the same issuer")
            # A user of one could be taken for the user of the other who has the same name.
            if (other := by_prefix.setdefault(each.prefix(name), name)) != name:
                raise ValueError(f"issuers '{other}' and '{name}' have the same subject_prefix")
        return self


def secure_url(value: str) -> SplitResult:
    """A URL that may be asked for keys: https, or http on this machine; raises ``ValueError``."""
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"'{value}' is not a URL: {error}") from error
    if not re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]+", value) or not host:
        raise ValueError(f"'{value}' is not a URL")
    if parts.username is not None or parts.query or parts.fragment or value.endswith(("?", "#")):
        raise ValueError(f"'{value}' must have no user, query or fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise ValueError(f"'{value}' must be https, or http on loopback")
    return parts


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
