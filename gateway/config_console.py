"""``console`` of ``wardgate.yaml``: the web pages for reviewers on the admin port."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from gateway.config_identity import AlgorithmName, Text, secure_url
from gateway.section import Name, Section


class OidcConfig(Section):
    """An identity provider at which people sign in: OpenID Connect, authorization code with PKCE."""

    issuer: Text = Field(description="Its issuer, compared exactly. https, or http on loopback.")
    client_id: Text = Field(description="What the console is called there.")
    client_secret: Text | None = Field(
        None,
        description="Its secret, when it has one; ${NAME} expands. Without it PKCE alone protects the code.",
    )
    title: str = Field(
        "Sign in with your organisation", min_length=1, max_length=80, description="What the button says."
    )
    scopes: tuple[Text, ...] = Field(("email",), description="Asked for beside openid.")
    claim: Text = Field(
        "email", description="The claim that names the person. An email must be verified (email_verified)."
    )
    operators: dict[Text, Text] = Field(
        default_factory=dict,
        description="Operators by the value of `claim`. Without it the value is the operator's name, as in "
        "`wardgate keys new --operator`.",
    )
    tenant: Name = Field("default", description="The tenant whose operators it may name.")
    algorithms: tuple[AlgorithmName, ...] = Field(
        ("RS256", "ES256", "EdDSA"), min_length=1, description="Signature algorithms of its ID tokens."
    )
    jwks_url: Text | None = Field(None, description="Where its keys are, if not on the issuer's origin.")
    token_url: Text | None = Field(
        None, description="Where codes are exchanged, if not on the issuer's origin."
    )
    ca_file: Path | None = Field(None, description="Authorities (PEM) that vouch for its TLS.")
    timeout_s: float = Field(5.0, gt=0, le=60, description="Time for one question to it.")

    def named(self, value: str) -> str | None:
        """The operator whom a value of ``claim`` names."""
        return self.operators.get(value) if self.operators else value

    @field_validator("issuer", "jwks_url", "token_url")
    @classmethod
    def _secure(cls, value: str | None) -> str | None:
        if value is not None:
            secure_url(value)
        return value

    @field_validator("algorithms")
    @classmethod
    def _public(cls, value: tuple[AlgorithmName, ...]) -> tuple[AlgorithmName, ...]:
        if "HS256" in value:
            raise ValueError("HS256 is for shared secrets; ID tokens are signed with a private key")
        return value


class ConsoleConfig(Section):
    enabled: bool = Field(True, description="Serve the console at /console of the admin port.")
    url: str | None = Field(
        None,
        description="Where people reach it from outside, such as https://wardgate.example.com/console. "
        "Messages about approvals link to it, an MCP client that can open pages is sent there when its user "
        "may decide, and the way back from an identity provider needs it.",
    )
    hours: float = Field(8.0, gt=0, le=24, description="Longest time somebody stays signed in, in hours.")
    idle_minutes: float = Field(
        60.0, ge=5, le=1440, description="Minutes after which somebody who does nothing is signed out."
    )
    oidc: OidcConfig | None = Field(None, description="Sign in at an identity provider too.")

    @property
    def link(self) -> str:
        """The address of an approval's page, with ``{id}`` for the approval; "" when nobody knows it."""
        return f"{self.url}/approvals/{{id}}" if self.url else ""

    @field_validator("url")
    @classmethod
    def _secure(cls, value: str | None) -> str | None:
        if value is None:
            return None
        secure_url(value)
        value = value.rstrip("/")
        if not value.endswith("/console"):
            raise ValueError("must end with /console")
        return value

    @model_validator(mode="after")
    def _way_back(self) -> ConsoleConfig:
        if self.oidc is not None and self.url is None:
            raise ValueError("'oidc' needs 'url'")
        return self
