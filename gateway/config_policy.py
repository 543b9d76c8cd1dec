"""``policy`` of ``wardgate.yaml``: where rules come from, and who must vouch for them.

Weak settings do not start: a bundle over plain HTTP, a remote bundle nobody need sign unless that is said in
so many words, keys that are missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from gateway.config_identity import secure_url
from gateway.section import Name, Seconds, Section

BundleAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256",
    "HS384", "HS512",
]  # fmt: skip


class BundleKeyConfig(Section):
    """One key that vouches for bundles."""

    algorithm: BundleAlgorithm = Field(description="The one algorithm this key signs with.")
    file: Path = Field(description="Public key in PEM; for HS256, HS384 and HS512 the shared secret.")


class VerifyConfig(Section):
    """Who must have signed a bundle."""

    keys: dict[Name, BundleKeyConfig] = Field(
        default_factory=dict, description="Keys by the name that signatures give as their key id."
    )
    scope: str = Field("", max_length=200, description="The scope a signature must be for.")
    required: bool | None = Field(
        None, description="Refuse what is not signed. On when not set, but for a folder without keys."
    )


class SourceConfig(Section):
    """A folder or bundle with who must have signed it, instead of ``policy.path``: one of ``path``, ``file``
    and ``url``."""

    path: Path | None = Field(None, description="Folder of Rego modules, data and tests.")
    file: Path | None = Field(None, description="Bundle (.tar.gz) on this machine; read again on change.")
    url: Annotated[str, Field(max_length=2000)] | None = Field(
        None, description="Bundle over https, or http on loopback. Redirects are not followed."
    )
    token: str | None = Field(None, description="Bearer token for the url; ${NAME} expands.")
    ca_file: Path | None = Field(
        None, description="Authorities (PEM) that vouch for the url's TLS, instead of the usual ones."
    )
    every_s: Seconds = Field(60.0, description="How often the url is asked whether there is a new bundle.")
    timeout_s: Seconds = Field(30.0, le=600, description="Time the url has for its whole answer.")
    stale_soft_s: Seconds = Field(
        3600.0,
        description="Time without a verified answer of the url after which reads and reversible calls are "
        "marked stale, and others need a person.",
    )
    stale_hard_s: float = Field(
        86_400.0,
        gt=0,
        le=2_592_000,
        description="Time after which reads and irreversible calls are refused, and reversible ones need a "
        "person.",
    )
    verify: VerifyConfig = VerifyConfig()

    @field_validator("url")
    @classmethod
    def _secure(cls, value: str | None) -> str | None:
        if value is not None:
            secure_url(value)
        return value

    @property
    def given(self) -> bool:
        return (self.path, self.file, self.url) != (None, None, None)

    @property
    def folder(self) -> bool:
        """Whether what is read is a folder, this one or ``policy.path``."""
        return (self.file, self.url) == (None, None)

    @property
    def signed(self) -> bool:
        """Whether what is not signed is refused."""
        if self.verify.required is not None:
            return self.verify.required
        return not self.folder or bool(self.verify.keys)

    @model_validator(mode="after")
    def _one_source(self) -> SourceConfig:
        if not self.given and not self.model_fields_set:
            return self
        if sum(each is not None for each in (self.path, self.file, self.url)) != 1:
            raise ValueError("give exactly one of 'path', 'file' and 'url'")
        if self.signed and not self.verify.keys:
            raise ValueError(
                "'verify.keys' is empty, so no bundle could be verified; add the key it is signed with, or "
                "say 'verify: {required: false}'"
            )
        if self.url is None and (self.token or self.ca_file):
            raise ValueError("'token' and 'ca_file' are for a 'url'")
        if self.stale_hard_s <= self.stale_soft_s:
            raise ValueError("'stale_hard_s' must be more than 'stale_soft_s'")
        return self


class OpaConfig(Section):
    """The OPA that decides with ``engine: opa``: one of ``url`` and ``socket``."""

    url: str | None = Field(None, description="Where OPA's API is: https, or http on this machine.")
    socket: Path | None = Field(None, description="Unix socket of OPA's API, faster than a port.")
    ca_file: Path | None = Field(
        None, description="Certificates (PEM) that OPA's is checked against; the system's when not set."
    )
    token_file: Path | None = Field(
        None, description="File with the bearer token for OPA; read again when it changes."
    )
    token_env: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Environment variable with the bearer token for OPA.",
    )
    deadline_ms: int = Field(
        200, ge=10, le=2000, description="Time OPA has for one decision; after it the call is refused."
    )

    @field_validator("url")
    @classmethod
    def _secure(cls, value: str | None) -> str | None:
        if value is not None:
            secure_url(value)
        return value

    @model_validator(mode="after")
    def _fitting(self) -> OpaConfig:
        if self.url is not None and self.socket is not None:
            raise ValueError("give only one of 'url' and 'socket'")
        if self.token_file is not None and self.token_env is not None:
            raise ValueError("give only one of 'token_file' and 'token_env'")
        if self.ca_file is not None and not (self.url or "").startswith("https:"):
            raise ValueError("'ca_file' is for an https 'url'")
        return self


class PolicyConfig(Section):
    path: Path = Field(Path("policies"), description="Folder of Rego modules, data and tests.")
    source: SourceConfig = SourceConfig()
    pack: str | None = Field(None, description="A shipped pack to load instead of, or under, the folder.")
    engine: Literal["embedded", "opa"] = Field(
        "embedded", description="What evaluates Rego: the engine inside the gateway, or a real OPA."
    )
    opa: OpaConfig = OpaConfig()
    reload: bool = Field(True, description="Reload when a file of the folder changes.")
    self_test: bool = Field(
        True, description="Put a changed policy in force only when its own tests pass, if it has any."
    )

    @model_validator(mode="after")
    def _somewhere(self) -> PolicyConfig:
        given = self.opa.url is not None or self.opa.socket is not None
        if self.engine == "opa" and not given:
            raise ValueError("'engine: opa' needs 'opa.url' or 'opa.socket'")
        # Somebody who gave an address believes that OPA decides.
        if self.engine != "opa" and given:
            raise ValueError("'opa' is given, and does nothing without 'engine: opa'")
        return self

    @property
    def folder(self) -> Path | None:
        """The policy folder; ``None`` where a bundle is read instead."""
        return self.source.path if self.source.given else self.path

    @property
    def watched(self) -> Path | None:
        """What is looked at for changes: the folder, or the file of the bundle."""
        return self.source.file or self.folder
