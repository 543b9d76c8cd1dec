"""``wardgate.yaml``: every setting, its unit, its default and its bounds.

Configuration is validated as a whole before anything is built from it: an unknown key, a missing secret or
a value out of bounds refuses to start and says which key, what is wrong and what to do. The JSON Schema
(``wardgate config schema``) and ``docs/reference/configuration.md`` are generated from these models.

Relative paths are relative to the folder of the configuration file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from gateway.config_identity import LEAST_SECRET, IdentityConfig, secure_url
from gateway.config_policy import PolicyConfig
from gateway.errors import ConfigError
from gateway.section import Name, Seconds, Section

RiskName = Literal["read", "reversible", "compensable", "irreversible"]
ModeName = Literal["observe", "warn", "enforce"]


class ServerConfig(Section):
    host: str = Field("127.0.0.1", description="Address agents connect to.")
    port: int = Field(8700, ge=0, le=65_535, description="Port agents connect to; 0 picks a free one.")
    admin_host: str = Field("127.0.0.1", description="Address of health, metrics and the admin API.")
    admin_port: int = Field(8701, ge=0, le=65_535, description="Port of health, metrics and the admin API.")
    public_url: str | None = Field(
        None,
        description="Where agents reach the gateway from outside, such as https://gateway.example.com; the "
        "base of resource identifiers, which are never taken from a request.",
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Host header values accepted besides loopback names and the bound address."
    )
    allowed_origins: tuple[str, ...] = Field(
        (), description="Origin header values accepted from browsers; none by default."
    )
    max_body_bytes: int = Field(
        4 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024, description="Largest request body."
    )
    max_depth: int = Field(64, ge=4, le=100, description="Nesting of a request body.")
    body_timeout_s: Seconds = Field(10.0, description="Time a client has to send a request body.")
    drain_s: Seconds = Field(30.0, description="Time calls in flight get to finish on SIGTERM.")
    session_idle_s: Seconds = Field(3600.0, description="Idle life of a legacy MCP session.")
    ask_timeout_s: Seconds = Field(
        300.0,
        description="Time a client has to answer a question of an upstream (sampling, elicitation, roots).",
    )
    max_sessions: int = Field(10_000, ge=1, description="Legacy MCP sessions held at once.")

    @field_validator("public_url")
    @classmethod
    def _secure(cls, value: str | None) -> str | None:
        if value is None:
            return None
        secure_url(value)
        return value.rstrip("/")


class LimitsConfig(Section):
    in_flight: int = Field(512, ge=1, description="Calls in flight in the whole gateway.")
    in_flight_per_agent: int = Field(64, ge=1, description="Calls in flight of one agent.")
    policy_input_bytes: int = Field(256 * 1024, ge=1024, description="Arguments policy is asked about.")
    policy_input_nodes: int = Field(20_000, ge=100, description="JSON values in those arguments.")
    result_bytes: int = Field(8 * 1024 * 1024, ge=1024, description="Largest result passed on.")
    open_decisions: int = Field(
        10_000, ge=1, description="Decisions about tools that run elsewhere whose outcome is to come."
    )
    open_decisions_per_agent: int = Field(1_000, ge=1, description="Of these, of one agent.")
    idempotency_keys: int = Field(100_000, ge=1, description="Idempotency keys remembered at once.")
    idempotency_keys_per_agent: int = Field(20_000, ge=1, description="Of these, of one agent.")
    idempotency_bytes: int = Field(
        256 * 1024 * 1024, ge=1024, description="Answers kept for these keys, all together."
    )


class StorageConfig(Section):
    path: Path = Field(Path("wardgate.db"), description="SQLite file of journal, keys and payloads.")
    key_file: Path | None = Field(
        None,
        description="File with the 32-byte storage key (base64), mode 0600. Or set WARDGATE_STORAGE_KEY. "
        "'wardgate init' makes one.",
    )
    payload_days: int = Field(
        30, ge=0, le=3650, description="Days arguments and results are kept; 0 keeps none."
    )
    read_batch_ms: int = Field(20, ge=1, le=1000, description="How long records of reads wait for company.")
    queue: int = Field(10_000, ge=100, description="Records waiting for the disk before calls are refused.")


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
    deadline_s: Seconds | None = Field(None, description="Time for an answer; the upstream's when not set.")
    integrity: Literal["trusted", "untrusted"] = Field(
        "untrusted", description="Whether its results may steer an agent."
    )
    confidentiality: int = Field(0, ge=0, le=3, description="How secret its results are.")
    sensitive: tuple[str, ...] = Field((), description="JSON pointers into arguments that are redacted.")
    polling: bool = Field(False, description="Repeating it is normal.")
    interruptible: bool | None = Field(
        None,
        description="A call may be cut off when its client gives up, outcome unknown; when not set, reads.",
    )
    extra: dict[str, Any] = Field(default_factory=dict, description="More for policy to read.")

    @field_validator("sensitive")
    @classmethod
    def _pointers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
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


class AssertionConfig(Section):
    """The signed statement about a call for upstreams with ``assertion: true``."""

    key_file: Path | None = Field(
        None, description="File with the signing keys, mode 0600; 'wardgate assertion new' makes it."
    )
    issuer: str = Field("wardgate", min_length=1, max_length=500, description="The iss claim.")
    lifetime_s: int = Field(60, ge=5, le=60, description="Seconds until an assertion expires.")


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


class AgentConfig(Section):
    owner: str = Field(description="The human or team behind the agent.")
    tenant: Name = Field("default", description="Whose it is; operators see their own tenant only.")
    labels: tuple[str, ...] = Field((), description="Words for policy.")
    environment: str = Field("default", description="Where it works, for policy: such as test or production.")
    mode: ModeName = Field("enforce", description="The gateway's own mode for this agent.")


class TelemetryConfig(Section):
    otlp_endpoint: str | None = Field(None, description="OTLP/HTTP traces endpoint; none exports nothing.")
    sample: float = Field(
        0.01, ge=0, le=1, description="Share of calls traced when the caller did not decide."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least important message that is logged."
    )
    log_format: Literal["json", "text"] = Field("json", description="JSON for machines, text for people.")
    max_tool_labels: int = Field(200, ge=1, description="Tools named in metrics before '_other'.")


class Config(Section):
    mode: ModeName = Field(
        "enforce",
        description="The gateway's own mode; the most lenient of gateway, upstream and agent holds.",
    )
    server: ServerConfig = ServerConfig()
    limits: LimitsConfig = LimitsConfig()
    storage: StorageConfig = StorageConfig()
    policy: PolicyConfig = PolicyConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    assertion: AssertionConfig = AssertionConfig()
    upstreams: dict[Name, UpstreamConfig] = Field(default_factory=dict)
    agents: dict[Name, AgentConfig] = Field(default_factory=dict)
    identity: IdentityConfig = IdentityConfig()

    @model_validator(mode="after")
    def _known_agents(self) -> Config:
        if self.identity.metadata and self.server.public_url is None:
            raise ValueError("identity.metadata needs server.public_url")
        named: list[tuple[str, str | None, str]] = [
            ("identity.proxy.subjects", None, agent) for agent in self.identity.proxy.subjects.values()
        ]
        for name, issuer in self.identity.issuers.items():
            where = f"identity.issuers.{name}"
            names = [*([issuer.agent] if issuer.agent else []), *issuer.agents.values()]
            named += [(where, issuer.tenant, agent) for agent in names]
        for where, tenant, agent in named:
            if agent not in self.agents:
                raise ValueError(f"{where}: there is no agent '{agent}' under 'agents'")
            if tenant is not None and self.agents[agent].tenant != tenant:
                raise ValueError(f"{where}: agent '{agent}' belongs to another tenant")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        for name, upstream in self.upstreams.items():
            if upstream.assertion and self.assertion.key_file is None:
                raise ValueError(f"upstreams.{name}.assertion needs assertion.key_file")
            if unknown := upstream.credentials.agents.keys() - self.agents.keys():
                raise ValueError(
                    f"upstreams.{name}.credentials.agents: {', '.join(sorted(unknown))} is no agent"
                )
        return self


def load(path: Path) -> Config:
    """Read, expand ``${NAME}`` and validate; every problem is one ``ConfigError`` that lists them all."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}. Run 'wardgate init' to make one.") from error
    try:
        raw = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be a mapping")
    try:
        config = Config.model_validate(_absolute(raw, path.resolve().parent))
    except ValidationError as error:
        lines = [
            f"  {'.'.join(str(part) for part in e['loc']) or '(top)'}: {e['msg']}" for e in error.errors()
        ]
        raise ConfigError(f"{path}:\n" + "\n".join(lines)) from error
    if config.policy.opa.token_env is not None:
        expand(f"${{{config.policy.opa.token_env}}}", f"{path}: policy.opa.token_env")
    for name, upstream in config.upstreams.items():
        for kind, values in (("env", upstream.env), ("headers", upstream.headers)):
            for key, text in values.items():
                expand(text, f"{path}: upstreams.{name}.{kind}.{key}")
        for part, secret in upstream.credentials.sources():
            if secret.env is not None:
                expand(f"${{{secret.env}}}", f"{path}: upstreams.{name}.credentials.{part}.env")
    if (token := config.policy.source.token) is not None:
        expand(token, f"{path}: policy.source.token")
    shared = {f"issuers.{name}": issuer.secret for name, issuer in config.identity.issuers.items()}
    for where, value in {**shared, "proxy": config.identity.proxy.secret}.items():
        if value is not None:
            where = f"{path}: identity.{where}.secret"
            # A short one can be found by trying, offline for a token.
            if len(expand(value, where).encode()) < LEAST_SECRET:
                raise ConfigError(f"{where}: needs at least {LEAST_SECRET} bytes: openssl rand -base64 32")
    return config


def expand(value: str, where: str) -> str:
    """Replace ``${NAME}`` from the environment; a missing variable is an error, never an empty secret."""

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise ConfigError(f"{where}: environment variable {name} is not set")
        return os.environ[name]

    return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", replace, value)


def _absolute(raw: dict[str, Any], base: Path) -> dict[str, Any]:
    """Make the paths of a raw document absolute, with the defaults written out."""
    raw = dict(raw)
    for section, key, default in (
        ("storage", "path", "wardgate.db"), ("storage", "key_file", None), ("policy", "path", "policies"),
        ("assertion", "key_file", None),
    ):  # fmt: skip
        part = raw.get(section)
        part = {} if part is None else part
        if not isinstance(part, dict):
            continue
        value = part.get(key, default)
        if isinstance(value, str):
            raw[section] = {**part, key: str(base / value)}
    _absolute_policy(raw["policy"] if isinstance(raw.get("policy"), dict) else {}, base)
    upstreams = raw.get("upstreams")
    if isinstance(upstreams, dict):
        for upstream in upstreams.values():
            if not isinstance(upstream, dict):
                continue
            for key in ("cwd", "openapi"):
                if isinstance(upstream.get(key), str):
                    upstream[key] = str(base / upstream[key])
            if isinstance(upstream.get("credentials"), dict):
                _absolute_secrets(upstream["credentials"], base)
    identity = raw.get("identity")
    issuers = identity.get("issuers") if isinstance(identity, dict) else None
    if isinstance(issuers, dict):
        for issuer in issuers.values():
            for key in ("jwks_file", "ca_file"):
                if isinstance(issuer, dict) and isinstance(issuer.get(key), str):
                    issuer[key] = str(base / issuer[key])
    return raw


def _absolute_policy(policy: dict[str, Any], base: Path) -> None:
    opa = policy.get("opa")
    for key in ("socket", "ca_file", "token_file"):
        if isinstance(opa, dict) and isinstance(opa.get(key), str):
            opa[key] = str(base / opa[key])
    source = policy.get("source")
    if not isinstance(source, dict):
        return
    for key in ("path", "file", "ca_file"):
        if isinstance(source.get(key), str):
            source[key] = str(base / source[key])
    verify = source.get("verify")
    keys = verify.get("keys") if isinstance(verify, dict) else None
    for each in keys.values() if isinstance(keys, dict) else ():
        if isinstance(each, dict) and isinstance(each.get("file"), str):
            each["file"] = str(base / each["file"])


def _absolute_secrets(credentials: dict[str, Any], base: Path) -> None:
    groups = [{"secret": credentials.get("secret")}, credentials.get("agents"), credentials.get("subjects")]
    for group in groups:
        for secret in group.values() if isinstance(group, dict) else ():
            if isinstance(secret, dict) and isinstance(secret.get("file"), str):
                secret["file"] = str(base / secret["file"])
