"""Checks of this machine: files, ports, clock, storage and keys."""

from __future__ import annotations

import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.cli.checks_identity import without_keys
from gateway.cli.findings import Finding, ok, problem, warning
from gateway.errors import ConfigError, StateError

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.storage.database import Database

_SHARED_SUBJECTS: Final = 5
_EXPIRES_SOON_NS: Final = 14 * 86_400 * 1_000_000_000
_UNUSED_NS: Final = 30 * 86_400 * 1_000_000_000
_LOOKED_AT: Final = 50_000
_FUTURE_NS: Final = 60 * 1_000_000_000


def files(config_path: Path, config: Config) -> Iterator[Finding]:
    """Who can read what must stay secret."""
    from gateway.cli import envfile
    from gateway.storage.crypto import load_key

    try:
        load_key(config.storage.key_file)
        yield ok("secrets", "The storage key is there and only its owner can read it.")
    except ConfigError as error:
        yield problem("secrets", f"{error}", "Without it no call can be recorded.", "Make the key as said.")
    exposed = [
        path
        for path in (envfile.beside(config_path), config.storage.path)
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    for path in exposed:
        yield problem(
            "secrets",
            f"{path} can be read by other users of this machine.",
            "It holds what only the gateway should know.",
            f"chmod 600 {path}",
        )
    literal = [
        f"upstreams.{name}.{part}.{key}"
        for name, upstream in config.upstreams.items()
        for part, values in (("headers", upstream.headers), ("env", upstream.env))
        for key, value in values.items()
        if "${" not in value and _secret_name(key)
    ]
    if literal:
        yield warning(
            "secrets",
            f"{config_path.name} holds a value in clear: {', '.join(literal)}.",
            "Configuration ends up in version control and in backups.",
            "Write ${NAME} there and set NAME in wardgate.env or in the environment.",
        )


def ports(config: Config) -> Iterator[Finding]:
    """Whether the gateway could listen, or already does."""
    server = config.server
    for key, host, port in (
        ("server.port", server.host, server.port),
        ("server.admin_port", server.admin_host, server.admin_port),
    ):
        if port == 0:
            yield ok("ports", f"{key}: a free port is picked at start.")
            continue
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((host, port))
            except OSError as error:
                if _gateway_answers(config):
                    yield ok("ports", f"{key}: {host}:{port} is held by the running gateway.")
                else:
                    yield problem(
                        "ports",
                        f"{key}: {host}:{port} cannot be used: {error.strerror}.",
                        "The gateway would not start.",
                        f"Stop what holds it, or choose another {key}.",
                    )
                continue
        yield ok("ports", f"{key}: {host}:{port} is free.")
        if host not in ("127.0.0.1", "::1", "localhost"):
            yield warning(
                "ports",
                f"{key}: {host} is reachable from other machines, without TLS of its own.",
                "Keys would travel in clear.",
                "Put a TLS proxy in front, or listen on 127.0.0.1.",
            )


def clock() -> Iterator[Finding]:
    """Whether wall clock and monotonic clock agree while we watch."""
    wall, steady = time.time_ns(), time.monotonic_ns()
    time.sleep(0.2)
    apart_ms = abs((time.time_ns() - wall) - (time.monotonic_ns() - steady)) / 1e6
    if apart_ms > 20:
        yield warning(
            "clock",
            f"The wall clock moved by {apart_ms:.0f} ms against the steady one within 0.2 s.",
            "Expiry of keys and the times in records follow the wall clock.",
            "Check the time service of this machine (chronyc tracking, timedatectl).",
        )
    else:
        yield ok("clock", "Wall clock and steady clock agree.")


def storage(config: Config) -> Iterator[Finding]:
    """Whether the journal can be used, and what it says of itself."""
    from gateway.storage.place import place

    try:
        found = place(config.storage)
        if not found.exists:
            yield ok("storage", f"{config.storage.path} will be made at the first start.")
            return
        with found.open(read_only=True) as database:
            shown = config.storage.path if config.storage.url is None else database.name
            yield ok("storage", f"{shown} has the schema of this version.")
            yield from _records(database)
            yield from _keys(config, database)
            yield from _pins(config, database)
            yield from _sessions(config, database)
    except (ConfigError, StateError) as error:
        yield problem("storage", f"{error}", "No call can be recorded.", "Do what the message says.")


def _records(database: Database) -> Iterator[Finding]:
    from sqlalchemy import select

    from gateway.journal.query import Filter, Query
    from gateway.storage.tables import records

    with database.reading() as connection:
        newest = select(records.c.at_ns).order_by(records.c.seq.desc()).limit(1)
        last: int | None = connection.execute(newest).scalar()
    if last is not None and last > time.time_ns() + _FUTURE_NS:
        ahead = (last - time.time_ns()) / 1e9
        yield problem(
            "clock",
            f"The newest record is {ahead:.0f} s in the future.",
            "The clock was set back: keys live longer, and records are out of order.",
            "Set the clock right before starting the gateway.",
        )
    doubtful = Query(database).list_decisions(Filter(in_doubt=True), limit=100).decisions
    if doubtful:
        first = f"{doubtful[0]['call_id']} ({doubtful[0].get('target')})"
        yield warning(
            "storage",
            f"{len(doubtful)} call(s) in doubt, such as {first}.",
            "Their effect may or may not have happened; identical calls are refused until somebody says.",
            "Look at 'wardgate decisions list --in-doubt', then 'wardgate decisions resolve ID'.",
        )


def _sessions(config: Config, database: Database) -> Iterator[Finding]:
    """Keys by which an agent that works for several users comes in as none of them."""
    from sqlalchemy import func, select

    from gateway.storage.credentials import Credentials
    from gateway.storage.tables import sessions

    keys = {key.id for key in Credentials(database).active() if key.kind == "agent"}
    users = select(sessions.c.agent, func.count(sessions.c.subject.distinct())).group_by(sessions.c.agent)
    used = select(sessions.c.agent, sessions.c.credential).where(
        sessions.c.rolling == 1, sessions.c.subject.is_(None)
    )
    with database.reading() as connection:
        many = {agent: number for agent, number in connection.execute(users) if number > 1}
        shared = {(agent, key) for agent, key in connection.execute(used) if key in keys and agent in many}
    for agent, key in sorted(shared):
        if agent in config.agents:
            yield warning(
                "sessions",
                f"Agent '{agent}' works for {many[agent]} verified users, and with the key {key} for nobody.",
                "What comes with the key is one session: what one user's work has read marks the others', "
                "and they share its budgets.",
                "Let it send the users' tokens, or use one key for each user.",
            )


def _pins(config: Config, database: Database) -> Iterator[Finding]:
    """Definitions that wait for a person."""
    from gateway.catalog.names import shown
    from gateway.pins import judged, waiting
    from gateway.storage.pins import Pins

    held = [
        row
        for row in Pins(database).load()[1]
        if row.upstream in config.upstreams and waiting(judged(row, config.upstreams[row.upstream].pins))
    ]
    if held:
        yield warning(
            "pins",
            f"{len(held)} definition(s) in quarantine, such as {shown(held[0].target)}.",
            "They are new, or not what was accepted; agents do not see them and cannot call them.",
            "Look at 'wardgate tools diff', then 'wardgate tools accept' or 'reject'.",
        )


def _keys(config: Config, database: Database) -> Iterator[Finding]:
    """Keys that end, keys of nobody, agents without one, agents that are not used or used by too many."""
    from gateway.storage.credentials import Credentials

    now = time.time_ns()
    active = Credentials(database).active()
    holders = {key.name for key in active if key.kind == "agent"}
    for name in sorted(set(config.agents) - holders - without_keys(config)):
        yield warning(
            "keys",
            f"Agent '{name}' has no valid key, and no issuer or proxy names it.",
            "It cannot call anything.",
            f"wardgate keys new --agent {name}",
        )
    for key in active:
        whose = f"Key {key.id} of {key.kind} '{key.name}'"
        if key.kind == "agent" and key.name not in config.agents:
            yield warning(
                "keys",
                f"{whose} belongs to no configured agent.",
                "It is refused.",
                f"Add the agent to the configuration, or: wardgate keys revoke {key.id}",
            )
        if key.expires_ns is not None and key.expires_ns - now < _EXPIRES_SOON_NS:
            days = (key.expires_ns - now) / 86_400e9
            yield warning(
                "keys",
                f"{whose} expires in {days:.0f} days.",
                "Its holder will be refused.",
                f"wardgate keys rotate {key.id} --overlap 7d",
            )
    yield from _use(database, {key.name: key.created_ns for key in active if key.kind == "agent"}, now)
    if active:
        yield ok("keys", f"{len(active)} valid key(s).")


def _use(database: Database, created: dict[str, int], now_ns: int) -> Iterator[Finding]:
    """How agents use their keys, judged by the newest records, so that a large journal costs no more."""
    from sqlalchemy import func, select

    from gateway.storage.tables import records

    newest = select(records.c.agent, records.c.subject, records.c.at_ns)
    newest = newest.order_by(records.c.seq.desc()).limit(_LOOKED_AT)
    recent = newest.subquery()
    query = select(
        recent.c.agent,
        func.max(recent.c.at_ns).label("last"),
        func.count(func.distinct(recent.c.subject)).label("subjects"),
    ).group_by(recent.c.agent)
    with database.reading() as connection:
        used = {row.agent: row for row in connection.execute(query)}
    for name, created_ns in sorted(created.items()):
        row = used.get(name)
        if now_ns - max(created_ns, row.last if row else 0) > _UNUSED_NS:
            yield warning(
                "keys",
                f"Agent '{name}' has not called anything for 30 days.",
                "A forgotten key is found by somebody else.",
                f"Revoke it: wardgate keys list, then wardgate keys revoke ID (agent '{name}').",
            )
        if row is not None and row.subjects >= _SHARED_SUBJECTS:
            yield warning(
                "keys",
                f"The key of agent '{name}' is shared by {row.subjects} end users.",
                "They share one budget and one trail, so one of them can stop all others.",
                "Give each agent its own key.",
            )


def _secret_name(key: str) -> bool:
    return any(word in key.lower() for word in ("auth", "token", "key", "secret", "passw", "cookie"))


def _gateway_answers(config: Config) -> bool:
    import httpx

    url = f"http://{config.server.admin_host}:{config.server.admin_port}/livez"
    try:
        return httpx.get(url, timeout=2.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
