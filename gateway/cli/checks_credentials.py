"""Checks of what authenticates the gateway to its upstreams."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from gateway.cli.findings import Finding, ok, problem, warning
from gateway.errors import ConfigError

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.upstreams.secrets.credentials import Secret

_OLD_KEY_DAYS: Final = 180


def usable(upstream: str, secret: Secret) -> list[Finding]:
    """What one secret is like, without saying anything of it."""
    where = f"upstreams.{upstream}.credentials.{secret.name}"
    if secret.state != "ok":
        return [
            problem(
                "secrets",
                f"{where}: {secret.error}.",
                "Calls that need it are refused as credential_unavailable.",
                "Make the source give it; a running gateway notices within seconds.",
            )
        ]
    if secret.warning:
        return [
            warning(
                "secrets",
                f"{where}: {secret.warning}.",
                "Any process of this machine could call the upstream as the gateway.",
                "chmod 600, or 'defaultMode: 0400' where Kubernetes mounts it.",
            )
        ]
    return [ok("secrets", f"{where} can be read.")]


def credentials(config: Config) -> Iterator[Finding]:
    """How credentials are sent and to whom; what their sources give is seen at first contact."""
    for name, upstream in config.upstreams.items():
        mine = upstream.credentials
        secret = mine.given or any("${" in value for value in upstream.headers.values())
        if secret and upstream.url is not None and _in_clear(upstream.url):
            yield warning(
                "secrets",
                f"upstreams.{name}: credentials are sent to {urlsplit(upstream.url).hostname} without TLS.",
                "Who can read the traffic has them.",
                "Use https, or keep the upstream on this machine.",
            )
        if mine.given and not mine.secret.given:
            yield warning(
                "secrets",
                f"upstreams.{name}.credentials has no 'secret' of the upstream's own.",
                "The gateway asks for lists of tools without a credential.",
                "Add one that may only list, unless the server lists to anybody.",
            )


def _in_clear(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost")


def assertions(config: Config) -> Iterator[Finding]:
    """Whether there is a key to sign with, and whether it is an old one."""
    from gateway.upstreams.secrets import signing_keys

    path = config.assertion.key_file
    if path is None:
        return
    try:
        keys = signing_keys.load(path)
    except ConfigError as error:
        yield problem("secrets", f"{error}", "The gateway would not start.", "Do what the message says.")
        return
    current = signing_keys.signing(keys, time.time())
    if current is None:
        yield problem(
            "secrets",
            f"No key of {path} may sign now.",
            "Calls to upstreams with 'assertion' are refused.",
            "wardgate assertion rotate --lead 0s",
        )
        return
    days = int((time.time() - current.nbf) / 86_400)
    if days > _OLD_KEY_DAYS:
        yield warning(
            "secrets",
            f"The key that signs assertions is {days} days old.",
            "Whoever has copied it in that time can speak as the gateway.",
            "wardgate assertion rotate",
        )
    else:
        yield ok("secrets", f"Assertions are signed with key {current.kid[:8]}….")
    if not any(upstream.assertion for upstream in config.upstreams.values()):
        yield warning(
            "secrets",
            "assertion.key_file is set, and no upstream has 'assertion: true'.",
            "Nothing is signed.",
            "Set it on the upstreams that check assertions, or remove the file.",
        )
