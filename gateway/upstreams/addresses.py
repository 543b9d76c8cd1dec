"""Which addresses may be connected to.

A name in a configuration is a promise that its owner can break: DNS may answer with the metadata service of
a cloud or with a machine behind the firewall (SSRF by rebinding). So addresses are judged at each connect,
after resolution, and the judged address is the one connected to. The tables are the IANA special-purpose
registries, written out because ``ipaddress`` changes its mind between versions of Python.

An IPv6 address can carry an IPv4 one that a translator or tunnel on the way delivers to. Those are judged by
what they carry as well as by what they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Address = IPv4Address | IPv6Address

# Never meant by a name that somebody configured: link-local (where clouds keep credentials), multicast,
# unspecified, broadcast, and metadata services that live elsewhere.
_NEVER: Final = tuple(
    IPv4Network(each)
    for each in (
        "0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32",
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure
        "192.0.0.192/32",  # Oracle
    )
)  # fmt: skip
_NEVER6: Final = tuple(
    IPv6Network(each)
    for each in (
        "::/128", "fe80::/10", "ff00::/8",
        "fd00:ec2::254/128",  # AWS
        "fd20:ce::254/128",  # Google
    )
)  # fmt: skip

# Not of the public internet: loopback, private, shared, reserved, documentation, benchmarking.
_PRIVATE: Final = tuple(
    IPv4Network(each)
    for each in (
        "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
        "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
    )
)  # fmt: skip

# Of IPv6 only this much is public, and of that not these (2001::/32 is Teredo, 2002::/16 is 6to4: both are
# tunnels to an IPv4 address of the sender's choice).
_PUBLIC6: Final = (IPv6Network("2000::/3"), IPv6Network("64:ff9b::/96"))
_PRIVATE6: Final = tuple(
    IPv6Network(each)
    for each in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)  # fmt: skip

_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_TRANSLATED: Final = IPv6Network("::ffff:0:0:0/96")
_COMPATIBLE: Final = IPv6Network("::/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_NAT64_LOCAL: Final = IPv6Network("64:ff9b:1::/48")
_SIX_TO_FOUR: Final = IPv6Network("2002::/16")
_TEREDO: Final = IPv6Network("2001::/32")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)


def parse(text: str) -> Address | None:
    """An address in its one plain spelling; ``None`` for names, ``127.1``, ``0x7f000001`` and the like.

    Such spellings are left to the resolver like any name, and what it makes of them is judged.
    """
    try:
        return ip_address(text.partition("%")[0])
    except ValueError:
        return None


def fault(address: Address, *, private: bool) -> str:
    """Why nothing may be connected to at ``address``, "" when it may; ``private`` allows internal ones."""
    for each in _carried(address):
        if _within(each, _NEVER, _NEVER6):
            return "link-local, metadata, multicast or unspecified"
    if private:
        return ""
    if isinstance(address, IPv6Address):
        mapped = address in _MAPPED
        if not mapped and (not _within(address, (), _PUBLIC6) or _within(address, (), _PRIVATE6)):
            return "not a public address"
    if any(_within(each, _PRIVATE, ()) for each in _carried(address)):
        return "not a public address"
    return ""


def is_loopback_name(host: str) -> bool:
    """``localhost`` means this machine by definition (RFC 6761, 6.3), so it spells out a loopback address."""
    return host.rstrip(".").lower() == "localhost"


def _within(address: Address, v4: tuple[IPv4Network, ...], v6: tuple[IPv6Network, ...]) -> bool:
    networks: tuple[IPv4Network, ...] | tuple[IPv6Network, ...] = (
        v4 if isinstance(address, IPv4Address) else v6
    )
    return any(address in network for network in networks)


def _carried(address: Address) -> Iterator[Address]:
    """The address itself and every IPv4 address that it may be delivered to."""
    yield address
    if isinstance(address, IPv4Address):
        return
    bits = int(address)
    if bits == 1:  # loopback looks like an IPv4-compatible 0.0.0.1
        return
    if any(address in each for each in (_MAPPED, _TRANSLATED, _COMPATIBLE, _NAT64, _NAT64_LOCAL)):
        yield IPv4Address(bits & 0xFFFFFFFF)
    if address in _NAT64_LOCAL and (split := (bits >> 64 & 0xFFFF) << 16 | bits >> 40 & 0xFFFF):
        yield IPv4Address(split)  # a /48 prefix puts it around the u octet (RFC 6052, 2.2)
    if address in _SIX_TO_FOUR:
        yield IPv4Address(bits >> 80 & 0xFFFFFFFF)
    if address in _TEREDO:
        yield IPv4Address(bits >> 64 & 0xFFFFFFFF)  # the server
        yield IPv4Address(~bits & 0xFFFFFFFF)  # the client, with its bits turned over
    if bits >> 32 & 0xFFFFFFFF in _ISATAP:
        yield IPv4Address(bits & 0xFFFFFFFF)
