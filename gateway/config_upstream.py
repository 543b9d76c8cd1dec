"""``upstreams`` of ``wardgate.yaml``: tool servers and APIs, what their tools do, and what authenticates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from gateway.config_verify import ReconcileConfig, VerifyConfig, check
from gateway.section import Name, Seconds, Section

RiskName = Literal["read", "reversible", "compensable", "irreversible"]
ModeName = Literal["observe", "warn", "enforce"]


SinkKind = Literal["recipient", "iban", "url", "host", "path", "sql", "command", "id", "text"]


class CostConfig(Section):
    """Where a call says what it costs: one of ``arguments`` and ``result``."""

    arguments: str = Field("", description="JSON pointer to the amount in the arguments.")
    result: str = Field("", description="JSON pointer to the amount in the result.")
    unit_micro_usd: int = Field(
        1_000_000, ge=1, le=2**53, description="Micro-USD of one unit of the amount; 10000 for cents."
    )

    @model_validator(mode="after")
    def _one_place(self) -> CostConfig:
        if bool(self.arguments) == bool(self.result):
            raise ValueError("give exactly one of 'arguments' and 'result'")
        if not (self.arguments or self.result).startswith("/"):
            raise ValueError("a JSON pointer starts with '/'")
        return self


class ToolConfig(Section):
    """The operator's manifest of a tool; ``match`` keys are exact names or ``*`` globs of the upstream."""

    risk: RiskName | None = Field(None, description="What a call can do; irreversible when nobody says.")
    effects: tuple[str, ...] = Field(
        (), description="Words for policy, such as write, egress, money, delete."
    )
    domain: str = Field("general", description="Field of work that trust is earned in.")
    idempotent: bool = Field(False, description="The same call twice has one effect.")
    effect_key: str | None = Field(
        None, description="Template over arguments, such as refund:{payment_id} or pay:{body.reference}."
    )
    cost_micro_usd: int = Field(0, ge=0, description="What one call costs, in millionths of a US dollar.")
    cost: CostConfig | None = Field(None, description="Where a call says what it costs besides that.")
    deadline_s: Seconds | None = Field(None, description="Time for an answer; the upstream's when not set.")
    integrity: Literal["trusted", "untrusted"] = Field(
        "untrusted", description="Whether its results may steer an agent."
    )
    confidentiality: int = Field(0, ge=0, le=3, description="How secret its results are.")
    trusted_fields: tuple[str, ...] = Field(
        (),
        description="JSON pointers into results, * for any member, of values that no outsider can have "
        "written: they may name recipients and the like.",
    )
    untrusted_fields: tuple[str, ...] = Field(
        (), description="The same, of values an outsider can have written, in a tool that is trusted."
    )
    sinks: dict[str, SinkKind] = Field(
        default_factory=dict,
        description="JSON pointers into arguments, * for any member, with what stands there: where it came "
        "from is traced. When not given, found by name and shape.",
    )
    sensitive: tuple[str, ...] = Field((), description="JSON pointers into arguments that are redacted.")
    polling: bool = Field(False, description="Repeating it is normal.")
    interruptible: bool | None = Field(
        None,
        description="A call may be cut off when its client gives up, outcome unknown; when not set, reads.",
    )
    verify: VerifyConfig | None = Field(
        None, description="A read that says, after the answer, whether the call had its effect."
    )
    reconcile: ReconcileConfig | None = Field(
        None, description="A read that says what became of a call whose outcome is in doubt."
    )
    extra: dict[str, Any] = Field(default_factory=dict, description="More for policy to read.")

    def readers(self) -> Iterator[tuple[str, str]]:
        """The tools that look back at its calls, by what for."""
        if self.verify is not None:
            yield "verify", self.verify.tool
        if self.reconcile is not None:
            yield "reconcile", self.reconcile.tool

    @field_validator("sensitive", "trusted_fields", "untrusted_fields", "sinks")
    @classmethod
    def _pointers(cls, value: Any) -> Any:
        for pointer in value:
            if not pointer.startswith("/"):
                raise ValueError(f"'{pointer}' is not a JSON pointer: it must start with '/'")
        return value


class SecretConfig(Section):
    """Where a secret comes from: one of ``env``, ``file`` and ``command``."""

    env: str | None = Field(
        None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Environment variable; read at start."
    )
    file: Path | None = Field(None, description="File, such as a mounted secret; read again when it changes.")
    command: tuple[str, ...] | None = Field(
        None, description='Command that prints it, or {"token", "expires_at"}; run without a shell.'
    )
    pass_env: tuple[str, ...] = Field(
        (), description="Variables the command gets besides PATH, HOME and LANG."
    )
    refresh_s: Seconds = Field(
        300.0, description="Time between runs of the command; sooner when what it printed expires sooner."
    )
    timeout_s: Seconds = Field(10.0, le=60, description="Time the command has.")

    @property
    def given(self) -> bool:
        return (self.env, self.file, self.command) != (None, None, None)

    @model_validator(mode="after")
    def _one_source(self) -> SecretConfig:
        if sum(each is not None for each in (self.env, self.file, self.command)) > 1:
            raise ValueError("give only one of 'env', 'file' and 'command'")
        if self.command is not None and not self.command:
            raise ValueError("'command' is empty")
        if self.command is None and self.pass_env:
            raise ValueError("'pass_env' is for a 'command'")
        return self


class SubjectSecretConfig(SecretConfig):
    """The secret of one end user. A user of that name in another tenant is another user."""

    tenant: Name = Field("default", description="Tenant of the agents that act for this user.")


class CredentialsConfig(Section):
    """What authenticates the gateway to this upstream, rotated without a restart."""

    header: str = Field("Authorization", description="Header of an HTTP upstream that carries it.")
    value: str = Field("Bearer ${secret}", description="Value of that header; ${secret} is the secret.")
    variable: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Environment variable of a stdio child that carries it.",
    )
    secret: SecretConfig = Field(SecretConfig(), description="The upstream's own.")
    agents: dict[Name, SecretConfig] = Field(default_factory=dict, description="Of single agents.")
    subjects: dict[str, SubjectSecretConfig] = Field(
        default_factory=dict, description="Of single end users; before that of the agent."
    )
    fallback: bool = Field(
        False,
        description="Principals without a secret of their own use the upstream's. "
        "On when neither 'agents' nor 'subjects' is there.",
    )
    keep_s: float = Field(
        300.0, ge=0, le=86_400, description="How long the last good secret is used when its source fails."
    )

    @property
    def given(self) -> bool:
        return self.secret.given or bool(self.agents) or bool(self.subjects)

    def sources(self) -> Iterator[tuple[str, SecretConfig]]:
        """Each secret with the path of its section below ``credentials``."""
        yield "secret", self.secret
        for kind, found in (("agents", self.agents), ("subjects", self.subjects)):
            for name, secret in found.items():
                yield f"{kind}.{name}", secret

    @model_validator(mode="before")
    @classmethod
    def _shared_unless_divided(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and "fallback" not in raw:
            return {**raw, "fallback": "agents" not in raw and "subjects" not in raw}
        return raw

    @model_validator(mode="after")
    def _complete(self) -> CredentialsConfig:
        rest = self.value.replace("${secret}", "", 1)
        if rest == self.value or "${" in rest:
            raise ValueError("'value' must have ${secret} once, and no other ${…}")
        if missing := [path for path, each in self.sources() if path != "secret" and not each.given]:
            raise ValueError(f"{', '.join(missing)}: give one of 'env', 'file' and 'command'")
        # With nothing to fall back on, a principal would be sent out without a credential.
        if self.fallback and not self.secret.given and self.given:
            raise ValueError("'fallback' needs a 'secret' to fall back on")
        return self


class PinsConfig(Section):
    """What happens to a definition nobody has accepted. In quarantine it is not listed and not called."""

    first: Literal["accept", "quarantine"] = Field(
        "accept", description="What an upstream lists at the very first contact: trust on first use, or not."
    )
    added: Literal["accept", "quarantine"] = Field(
        "quarantine", description="What is listed for the first time after that."
    )
    changed: Literal["quarantine", "flag"] = Field(
        "quarantine", description="Anything whose definition is no longer the accepted one."
    )
    removed: Literal["accept", "quarantine"] = Field(
        "accept", description="What was not listed for a while and is back as it was accepted."
    )
    suspicious: Literal["quarantine", "flag"] = Field(
        "quarantine", description="Definitions with characters or markup that hide text, not yet accepted."
    )
    shadowing: Literal["quarantine", "flag"] = Field(
        "quarantine", description="Names that look like another one or are reserved, not yet accepted."
    )
    same_name: Literal["quarantine", "flag"] = Field(
        "flag", description="Names that another upstream has as well, not yet accepted."
    )
    resources: bool = Field(
        False, description="Pin listed resources too, not only tools, prompts and resource templates."
    )


class RouteConfig(Section):
    """Which requests of an Envoy in front of an API are which tool; the first route that fits is taken."""

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = Field(
        description="Method of the request."
    )
    path: str = Field(
        max_length=1024,
        pattern=r"^/[^?#\s]*$",
        description="Path of the request; {name} stands for one segment and becomes an argument.",
    )
    tool: str = Field(min_length=1, max_length=256, description="Name of the tool.")
    body: Literal["none", "json"] = Field(
        "none", description="json: members of the body are arguments. none: a body is refused."
    )

    @field_validator("path")
    @classmethod
    def _template(cls, value: str) -> str:
        names = re.findall(r"\{([^{}/]*)\}", value)
        for segment in value.split("/")[1:]:
            if not re.fullmatch(r"\{[A-Za-z_][A-Za-z0-9_]*\}|[^{}]*", segment):
                raise ValueError(f"'{segment}' is neither a plain segment nor one whole {{name}}")
            if segment in (".", "..") or "%" in segment or "\\" in segment:
                raise ValueError(f"'{segment}' would never be matched: write segments decoded, without dots")
        if len(names) != len(set(names)):
            raise ValueError("the same {name} stands twice in the path")
        return value


class UpstreamConfig(Section):
    url: str | None = Field(
        None,
        description="Streamable HTTP endpoint of an MCP server, or with `openapi` the base of the API.",
    )
    command: tuple[str, ...] | None = Field(None, description="Command of an MCP server on stdio.")
    elsewhere: bool = Field(
        False, description="Its tools run elsewhere: the gateway decides and records, and sends nothing."
    )
    routes: tuple[RouteConfig, ...] = Field((), description="With elsewhere: requests Envoy asks about.")
    openapi: Path | None = Field(
        None, description="OpenAPI 3.0 or 3.1 document (JSON or YAML) of the HTTP API at `url`; a local file."
    )
    python: str | None = Field(
        None,
        description="Python callables as tools: `module:attribute`, or the name of an entry point of the "
        "group `wardgate.tools`.",
    )
    env: dict[str, str] = Field(
        default_factory=dict, description="Environment of the command; ${NAME} expands."
    )
    cwd: Path | None = Field(None, description="Folder the command runs in.")
    headers: dict[str, str] = Field(default_factory=dict, description="Sent upstream; ${NAME} expands.")
    allow_private: bool = Field(
        False,
        description="With `openapi`: the name in `url` may resolve to an internal address.",
    )
    credentials: CredentialsConfig = CredentialsConfig()
    assertion: bool = Field(False, description="Send a signed assertion about each call.")
    audience: str | None = Field(
        None, description="The aud claim of assertions; the url when not set, needed for a command."
    )
    shared: bool = Field(False, description="One stdio child for all principals instead of one each.")
    mode: ModeName = Field("enforce", description="The gateway's own mode for this upstream.")
    trust_hints: bool = Field(False, description="Believe readOnlyHint of the server's annotations.")
    deadline_s: Seconds = Field(60.0, description="Time for an answer, where a tool has none of its own.")
    connections: int = Field(64, ge=1, le=4096, description="Connections kept to an HTTP upstream.")
    children: int = Field(64, ge=1, le=1024, description="stdio children at once.")
    pins: PinsConfig = PinsConfig()
    tools: dict[str, ToolConfig] = Field(default_factory=dict, description="Manifests by tool name or glob.")

    @model_validator(mode="after")
    def _one_way(self) -> UpstreamConfig:
        ways = (self.url is not None, self.command is not None, self.python is not None, self.elsewhere)
        if ways.count(True) != 1:
            raise ValueError("give exactly one of 'url', 'command', 'python' and 'elsewhere: true'")
        if self.routes and not self.elsewhere:
            raise ValueError("'routes' belong to an upstream with 'elsewhere: true'")
        if self.openapi is not None and self.url is None:
            raise ValueError("'openapi' needs 'url', the base of the API: the document does not choose it")
        if self.allow_private and self.openapi is None:
            raise ValueError("'allow_private' is for 'openapi'; an MCP server may always be internal")
        if self.url is not None and not re.match(r"^https?://", self.url):
            raise ValueError("'url' must start with http:// or https://")
        if self.command is not None and not self.command:
            raise ValueError("'command' is empty")
        return self

    @model_validator(mode="after")
    def _verifiers(self) -> UpstreamConfig:
        check(self.tools, elsewhere=self.elsewhere, hints=self.trust_hints)
        return self

    @model_validator(mode="after")
    def _fitting_credentials(self) -> UpstreamConfig:
        mine = self.credentials
        if self.python is not None and (mine.given or self.assertion):
            raise ValueError(
                "'credentials' and 'assertion' are for servers; a callable runs inside the gateway"
            )
        if self.assertion and not (self.audience or self.url):
            raise ValueError("'assertion' of a command needs an 'audience'")
        if not mine.given:
            return self
        if self.url is not None and mine.variable is not None:
            raise ValueError("'credentials.variable' is for a 'command'; an HTTP upstream has a 'header'")
        if self.command is not None and mine.variable is None:
            raise ValueError("'credentials' of a command need a 'variable'")
        if mine.variable in self.env or mine.header.lower() in map(str.lower, self.headers):
            raise ValueError("'credentials' set what 'env' or 'headers' sets too; remove one")
        if self.shared and (mine.agents or mine.subjects):
            raise ValueError("one shared child cannot have the credentials of several principals")
        return self
