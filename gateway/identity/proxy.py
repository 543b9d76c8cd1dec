"""Agents whose client certificate was checked by a TLS proxy in front of the gateway.

The proxy says in a header whose certificate it was. That header is worth as much as the certainty that only
the proxy can send it: it is believed from the configured addresses alone (of the TCP connection, never of a
header), with the shared secret where one is configured, and exactly once. From anybody else it is refused:
who sends it is either lying or has found a way around the proxy, and both should be seen.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Final

from gateway.config import AgentConfig
from gateway.config_identity import ProxyConfig
from gateway.config_upstream import ModeName
from gateway.errors import Unauthenticated
from gateway.identity.principals import principal_of
from gateway.model import Principal

MAX_HEADER: Final = 8 * 1024
# Envoy's format: fields separated by ';', a value in double quotes where it has one of , ; = in it.
_FIELD: Final = re.compile(r'([A-Za-z]+)=(?:"((?:[^"\\]|\\["\\])*)"|([^",;=\\]*))(;|\Z)')
_ONCE: Final = frozenset({"by", "hash", "cert", "chain", "subject"})
_KNOWN: Final = _ONCE | {"uri", "dns"}


class Proxy:
    """What the proxy says of a request, as a principal."""

    def __init__(
        self, config: ProxyConfig, secret: str | None, agents: Mapping[str, AgentConfig], mode: ModeName
    ) -> None:
        self._config = config
        self._header = config.header.encode()
        self._secret_header = config.secret_header.encode()
        self._secret = None if secret is None else secret.encode()
        networks = tuple(ipaddress.ip_network(each) for each in config.networks)
        self._trusts = lru_cache(maxsize=4096)(lambda host: _within(host, networks))
        self._principals = {
            # Named by the subject: another certificate of the same agent is another credential.
            subject: principal_of(
                name, agents[name], mode, f"mtls:{sha256(subject.encode()).hexdigest()[:16]}"
            )
            for subject, name in config.subjects.items()
        }

    def principal(
        self, headers: Iterable[tuple[bytes, bytes]], peer: tuple[str, int] | None
    ) -> Principal | None:
        """``None`` when there is no such header; raises ``Unauthenticated`` for one that proves nothing."""
        said: bytes | None = None
        secret: bytes | None = None
        for name, value in headers:
            if name == self._header:
                # Of two values a proxy may have written one and its client the other.
                if said is not None:
                    raise Unauthenticated("untrusted_proxy", f"{self._config.header} came more than once")
                said = value
            elif name == self._secret_header:
                if secret is not None:
                    raise Unauthenticated(
                        "untrusted_proxy", f"{self._config.secret_header} came more than once"
                    )
                secret = value
        if said is None:
            return None
        # A client that reaches the gateway around the proxy can write any header it likes.
        if peer is None or not self._trusts(peer[0]):
            raise Unauthenticated(
                "untrusted_proxy", f"{self._config.header} from {peer[0] if peer else 'nowhere'}"
            )
        if self._secret is not None and not hmac.compare_digest(secret or b"", self._secret):
            raise Unauthenticated("untrusted_proxy", f"{self._config.secret_header} is missing or wrong")
        subject = self._subject(said)
        principal = self._principals.get(subject)
        if principal is None:
            raise Unauthenticated("unknown_agent", f"{subject[:120]!r} is not in 'subjects' of the proxy")
        return principal

    def _subject(self, said: bytes) -> str:
        if len(said) > MAX_HEADER:
            raise _odd("too long")
        try:
            text = said.decode("utf-8").strip(" \t")
        except UnicodeDecodeError:
            raise _odd("not UTF-8") from None
        if not text.isprintable():
            raise _odd("control characters")
        if self._config.format == "plain":
            return text
        found = fields(text).get(self._config.field, ())
        # A certificate with several names has no one name to go by.
        if len(found) != 1:
            raise _odd(f"{len(found)} values of {self._config.field}")
        return found[0]


def fields(text: str) -> dict[str, tuple[str, ...]]:
    """The fields of one element of ``x-forwarded-client-cert``, by lower-case name.

    Several elements mean several proxies, of which only the last one's is known to be true; which of them
    speaks of the agent depends on how the outer ones are set up, so only one is accepted.
    """
    found: dict[str, list[str]] = {}
    position = 0
    while position < len(text) or position == 0:
        match = _FIELD.match(text, position)
        if match is None:
            raise _odd("not exactly one element of fields")
        name = match[1].lower()
        if name not in _KNOWN or (name in _ONCE and name in found):
            raise _odd("an unknown field, or one that came twice")
        value = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
        found.setdefault(name, []).append(value)
        position = match.end()
        if match[4] == ";" and position == len(text):
            raise _odd("an empty field")
    return {name: tuple(value for value in values if value) for name, values in found.items()}


def _odd(why: str) -> Unauthenticated:
    return Unauthenticated("bad_credential", f"certificate header: {why}")


def _within(host: str, networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a unix socket has no address
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
