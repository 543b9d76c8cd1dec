"""No name leads a request to an address that nobody meant."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from typing import Any

import pytest

from gateway.errors import NotSent
from gateway.upstreams import addresses
from gateway.upstreams.pool import Pool

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"

PUBLIC = ("8.8.8.8", "1.1.1.1", "100.63.255.255", "172.32.0.1", "2606:4700:4700::1111", "64:ff9b::808:808")

PRIVATE = {
    "loopback": ("127.0.0.1", "127.255.255.254", "::1"),
    "private": ("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    "shared": ("100.64.0.1", "100.127.255.255"),
    "unique local": ("fc00::1", "fd12:3456::1"),
    "site-local": ("fec0::1", "feff::1"),
    "documentation and benchmarking": (
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.9",
        "198.18.0.1",
        "2001:db8::1",
    ),
    "reserved": ("240.0.0.1", "192.0.0.8", "5f00::1", "4000::1"),
    "mapped": ("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:192.168.0.1"),
    "translated": ("::ffff:0:10.0.0.1",),
    "compatible": ("::10.0.0.1", "::127.0.0.1", "::8.8.8.8"),
    "NAT64": ("64:ff9b::10.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b:1::10.0.0.1"),
    "6to4": ("2002:7f00:1::1", "2002:a00:1::", "2002:c0a8:101::1", "2002:808:808::1"),
    "Teredo": ("2001:0:4136:e378:8000:63bf:3fff:fdd2",),
    "ISATAP": ("2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:192.168.0.1"),
}

NEVER = {
    "link-local and metadata": ("169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0"),
    "metadata elsewhere": (
        "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254",
    ),
    "multicast and broadcast": ("224.0.0.1", "239.255.255.255", "255.255.255.255", "ff02::1"),
    "unspecified": ("0.0.0.0", "0.1.2.3", "::"),
    "mapped": ("::ffff:169.254.169.254", "::ffff:0.0.0.0"),
    "translated": ("::ffff:0:169.254.169.254",),
    "compatible": ("::169.254.169.254",),
    "NAT64": ("64:ff9b::169.254.169.254", "64:ff9b:1::169.254.169.254", "64:ff9b:1:a9fe:a9:fe00::"),
    "6to4": ("2002:a9fe:a9fe::1",),
    "Teredo": ("2001:0:a9fe:a9fe::1", "2001:0:4136:e378:8000:63bf:5601:5601"),
    "ISATAP": ("2606:4700::5efe:169.254.169.254",),
}  # fmt: skip


def every(table: dict[str, tuple[str, ...]]) -> list[Any]:
    return [pytest.param(each, id=f"{kind} {each}") for kind, many in table.items() for each in many]


def fault(text: str, *, private: bool) -> str:
    address = addresses.parse(text)
    assert address is not None
    return addresses.fault(address, private=private)


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_may_be_connected_to(text: str) -> None:
    assert fault(text, private=False) == fault(text, private=True) == ""


@pytest.mark.parametrize("text", every(PRIVATE))
def test_internal_addresses_need_permission(text: str) -> None:
    assert fault(text, private=False)
    assert fault(text, private=True) == ""


@pytest.mark.parametrize("text", every(NEVER))
def test_what_no_name_means_is_refused_whatever_is_permitted(text: str) -> None:
    assert fault(text, private=False)
    assert fault(text, private=True)


def test_the_table_is_no_laxer_than_the_standard_library() -> None:
    """Whatever Python takes for internal is so here too, over a sample of IPv4 and of IPv6."""
    sample = [ip_address(number * 65_537 % 2**32) for number in range(2**16)]
    sample += [
        ip_address(f"{head:x}:{middle:x}::1") for head in range(0, 2**16, 97) for middle in (0, 1, 0xDB8)
    ]
    lax = [
        each
        for each in sample
        if (each.is_private or each.is_multicast) and not addresses.fault(each, private=False)
    ]
    assert lax == []


@pytest.mark.parametrize(
    "text", ["127.1", "0x7f000001", "2130706433", "0177.0.0.1", "localhost", "a.example", ""]
)
def test_another_spelling_is_a_name_to_be_resolved_and_judged(text: str) -> None:
    assert addresses.parse(text) is None


# -- at connect ------------------------------------------------------------------------------------------


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Make names resolve to ``answers``, one for each time asked, and see what is connected to."""
    loop = asyncio.get_running_loop()
    waiting = list(answers)
    connected: list[str] = []

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        now = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return [(socket.AF_INET6 if ":" in each else socket.AF_INET, 1, 6, "", (each, port)) for each in now]

    async def create_connection(_: Any, host: str, *__: Any, **___: Any) -> Any:
        connected.append(host)
        raise OSError("nobody there")

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(loop, "create_connection", create_connection)
    return connected


async def refused(pool: Pool) -> str:
    with pytest.raises(NotSent) as caught:
        await pool.exchange(REQUEST, asyncio.get_running_loop().time() + 1)
    await pool.close()
    return caught.value.detail


@pytest.mark.parametrize(
    "text", every({**PRIVATE, **{f"never {kind}": each for kind, each in NEVER.items()}})
)
async def test_a_name_of_an_api_that_turns_inwards_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    connected = resolving(monkeypatch, [text])
    detail = await refused(Pool("http://api.example/", connections=1, body_bytes=100, private=False))
    assert "may be connected to" in detail and connected == []


async def test_the_address_judged_is_the_one_connected_to_and_each_connect_is_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connected = resolving(monkeypatch, ["8.8.8.8"], ["127.0.0.1"], ["10.0.0.1", "1.1.1.1"])
    pool = Pool("http://api.example/", connections=1, body_bytes=100, private=False)
    at = asyncio.get_running_loop().time() + 1
    for _ in range(3):
        with pytest.raises(NotSent):
            await pool.exchange(REQUEST, at)
    assert connected == ["8.8.8.8", "1.1.1.1"]
    await pool.close()


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "017700000001"])
async def test_a_number_in_the_place_of_a_name_is_judged_by_what_it_means(host: str) -> None:
    detail = await refused(Pool(f"http://{host}/", connections=1, body_bytes=100, private=False))
    assert "connect" in detail or "known" in detail, detail


@pytest.mark.parametrize(
    ("url", "private", "answer"),
    [
        ("http://127.0.0.1/", False, []),  # spelled out
        ("http://169.254.169.254/", False, []),
        ("http://[::1]/", False, []),
        ("http://localhost/", False, ["127.0.0.1"]),
        ("http://LocalHost./", False, ["::1"]),
        ("http://crm.internal/", True, ["10.1.2.3"]),  # permitted
    ],
)
async def test_what_the_operator_says_is_connected_to(
    monkeypatch: pytest.MonkeyPatch, url: str, private: bool, answer: list[str]
) -> None:
    connected = resolving(monkeypatch, answer)
    await refused(Pool(url, connections=1, body_bytes=100, private=private))
    assert len(connected) == 1
