"""``wardgate.yaml``: every setting, its unit, its default and its bounds.

Configuration is validated as a whole before anything is built from it: an unknown key, a missing secret or
a value out of bounds refuses to start and says which key, what is wrong and what to do. The JSON Schema
(``wardgate config schema``) and ``docs/reference/configuration.md`` are generated from these models.

Relative paths are relative to the folder of the configuration file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from gateway.config_approvals import ApprovalsConfig, address, secured
from gateway.config_breakers import BreakersConfig
from gateway.config_console import ConsoleConfig
from gateway.config_identity import LEAST_SECRET, IdentityConfig, secure_url
from gateway.config_policy import PolicyConfig
from gateway.config_sessions import AgentSessions, SessionsConfig, TenantConfig
from gateway.config_trust import BuildConfig, TrustConfig
from gateway.config_upstream import ModeName, UpstreamConfig
from gateway.errors import ConfigError
from gateway.model import OWN
from gateway.section import Name, Seconds, Section


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
    url: str | None = Field(
        None,
        description="PostgreSQL instead of it: postgresql://user:${NAME}@host/name?sslmode=verify-full. "
        "${NAME} expands. Other hosts than this one must name sslmode.",
    )
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


class AssertionConfig(Section):
    """The signed statement about a call for upstreams with ``assertion: true``."""

    key_file: Path | None = Field(
        None, description="File with the signing keys, mode 0600; 'wardgate assertion new' makes it."
    )
    issuer: str = Field("wardgate", min_length=1, max_length=500, description="The iss claim.")
    lifetime_s: int = Field(60, ge=5, le=60, description="Seconds until an assertion expires.")


class AgentConfig(AgentSessions):
    owner: str = Field(description="The human or team behind the agent.")
    tenant: Name = Field("default", description="Whose it is; operators see their own tenant only.")
    labels: tuple[str, ...] = Field((), description="Words for policy.")
    environment: str = Field("default", description="Where it works, for policy: such as test or production.")
    mode: ModeName = Field("enforce", description="The gateway's own mode for this agent.")
    build: BuildConfig | None = Field(
        None, description="Which model, prompt and tools it is; an agent without it never goes beyond T2."
    )


class TelemetryConfig(Section):
    otlp_endpoint: str | None = Field(
        None,
        description="Where traces go: the whole URL of an OTLP collector; none exports nothing.",
    )
    otlp_protocol: Literal["http/protobuf", "grpc"] = Field(
        "http/protobuf", description="How they go there; grpc needs the extra wardgate[otlp-grpc]."
    )
    trace_content: bool = Field(
        False,
        description="Show arguments and results of tools in spans, without what is called sensitive.",
    )
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
    breakers: BreakersConfig = BreakersConfig()
    trust: TrustConfig = TrustConfig()
    upstreams: dict[Name, UpstreamConfig] = Field(default_factory=dict)
    agents: dict[Name, AgentConfig] = Field(default_factory=dict)
    identity: IdentityConfig = IdentityConfig()
    sessions: SessionsConfig = SessionsConfig()
    tenants: dict[Name, TenantConfig] = Field(default_factory=dict, description="Budgets of whole tenants.")
    approvals: ApprovalsConfig = ApprovalsConfig()
    console: ConsoleConfig = ConsoleConfig()

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
        for name, each in self.agents.items():
            # A pattern may wait for agents to come; a name that is none is a mistake in a name.
            for agent in each.mints.agents if each.mints is not None else ():
                if "*" not in agent:
                    named.append((f"agents.{name}.mints", each.tenant, agent))
        if idle := self.tenants.keys() - {each.tenant for each in self.agents.values()}:
            # The budget of a tenant that is none bounds nobody, and somebody counts on it.
            raise ValueError(f"tenants: {', '.join(sorted(idle))}: no agent belongs to it")
        for where, tenant, agent in named:
            if agent not in self.agents:
                raise ValueError(f"{where}: there is no agent '{agent}' under 'agents'")
            if tenant is not None and self.agents[agent].tenant != tenant:
                raise ValueError(f"{where}: agent '{agent}' belongs to another tenant")
        return self

    @model_validator(mode="after")
    def _known(self) -> Config:
        for name, envelope in self.approvals.envelopes.items():
            where = f"approvals.envelopes.{name}"
            if strange := set(envelope.agents) - self.agents.keys():
                raise ValueError(f"{where}.agents: {', '.join(sorted(strange))} is no agent")
            if strange := {tool.partition("/")[0] for tool in envelope.tools} - self.upstreams.keys():
                raise ValueError(f"{where}.tools: {', '.join(sorted(strange))} is no upstream")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if OWN in self.upstreams:
            raise ValueError(f"upstreams.{OWN}: this name is the gateway's own; choose another")
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
    document = yaml.compose(text, Loader=yaml.SafeLoader)
    try:
        config = Config.model_validate(_absolute(raw, path.resolve().parent))
    except ValidationError as error:
        lines = [
            f"  {path.name}:{_line(document, e)}: "
            f"{'.'.join(str(part) for part in e['loc']) or '(top)'}: {e['msg']}"
            for e in error.errors()
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
    oidc = config.console.oidc
    if oidc is not None and oidc.client_secret is not None:
        expand(oidc.client_secret, f"{path}: console.oidc.client_secret")
    if config.storage.url is not None:
        expand(config.storage.url, f"{path}: storage.url")
    if (token := config.policy.source.token) is not None:
        expand(token, f"{path}: policy.source.token")
    for name, hook in config.approvals.webhooks.items():
        secured(expand(hook.url, f"{path}: approvals.webhooks.{name}.url"), name)
    signed = {f"approvals.webhooks.{name}": hook.secret for name, hook in config.approvals.webhooks.items()}
    signed |= {f"breakers.scores.{name}": each.secret for name, each in config.breakers.scores.items()}
    for name, text in signed.items():
        where = f"{path}: {name}.secret"
        if len(expand(text, where).encode()) < LEAST_SECRET:
            raise ConfigError(f"{where}: needs at least {LEAST_SECRET} bytes: openssl rand -base64 32")
    for channel in config.approvals.told(config.console.link).values():
        address(channel)
    shared = {f"issuers.{name}": issuer.secret for name, issuer in config.identity.issuers.items()}
    for where, value in {**shared, "proxy": config.identity.proxy.secret}.items():
        if value is not None:
            where = f"{path}: identity.{where}.secret"
            # A short one can be found by trying, offline for a token.
            if len(expand(value, where).encode()) < LEAST_SECRET:
                raise ConfigError(f"{where}: needs at least {LEAST_SECRET} bytes: openssl rand -base64 32")
    return config


def _line(document: Any, error: Any) -> int:
    """Where in the file an error is: the line of the last part of its place that is written there."""
    # What is wrong between several parts says in its message which one it means.
    said = error["msg"].removeprefix("Value error, ").partition(": ")[0]
    node, line = document, 1
    for part in (*error["loc"], *(said.split(".") if said.isprintable() and " " not in said else ())):
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = (node.value[part], node.value[part])
        else:
            found = None
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line


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
    console = raw.get("console")
    oidc = console.get("oidc") if isinstance(console, dict) else None
    if isinstance(oidc, dict) and isinstance(oidc.get("ca_file"), str):
        oidc["ca_file"] = str(base / oidc["ca_file"])
    identity = raw.get("identity")
    issuers = identity.get("issuers") if isinstance(identity, dict) else None
    if isinstance(issuers, dict):
        for issuer in issuers.values():
            for key in ("jwks_file", "ca_file"):
                if isinstance(issuer, dict) and isinstance(issuer.get(key), str):
                    issuer[key] = str(base / issuer[key])
    approvals = raw.get("approvals")
    channels = approvals.get("channels") if isinstance(approvals, dict) else None
    for channel in channels.values() if isinstance(channels, dict) else ():
        if isinstance(channel, dict) and isinstance(channel.get("file"), str):
            channel["file"] = str(base / channel["file"])
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
