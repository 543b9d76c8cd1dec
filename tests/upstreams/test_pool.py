"""Connections: kept, bounded, and never a reason to send a request twice."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigError, InDoubt, NotSent
from gateway.upstreams import pool as pools
from gateway.upstreams.pool import Pool

REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def at(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def ok(exchange: Any) -> None:
    await exchange.send(OK)


async def test_calls_one_after_the_other_share_one_connection(serve: Any) -> None:
    server = await serve(ok)
    pool = Pool(server.url, connections=8, body_bytes=100)
    for _ in range(20):
        assert (await pool.exchange(REQUEST, at(1))).body == b"ok"
    assert (server.connections, pool.opened, pool.reused) == (1, 1, 19)
    await pool.close()


async def test_200_calls_at_once_stay_within_the_bound_and_all_are_answered(serve: Any) -> None:
    async def answer(exchange: Any) -> None:
        await asyncio.sleep(0.005)
        await exchange.send(OK)

    server = await serve(answer)
    pool = Pool(server.url, connections=16, body_bytes=100)
    answers = await asyncio.gather(*(pool.exchange(REQUEST, at(10)) for _ in range(200)))
    assert [each.body for each in answers] == [b"ok"] * 200
    assert server.peak <= 16
    assert len(server.exchanges) == 200
    await pool.close()


async def test_a_call_that_finds_no_free_connection_in_time_was_not_sent(serve: Any) -> None:
    async def hang(exchange: Any) -> None:
        await asyncio.sleep(5)

    server = await serve(hang)
    pool = Pool(server.url, connections=1, body_bytes=100)
    first = asyncio.create_task(pool.exchange(REQUEST, at(0.4)))
    await asyncio.sleep(0.05)
    with pytest.raises(NotSent) as caught:
        await pool.exchange(REQUEST, at(0.1))
    assert caught.value.code == "overloaded"
    assert len(server.exchanges) == 1
    with pytest.raises(InDoubt):
        await first
    await pool.close()


async def test_the_queue_for_connections_is_bounded(serve: Any) -> None:
    async def hang(exchange: Any) -> None:
        await asyncio.sleep(5)

    server = await serve(hang)
    pool = Pool(server.url, connections=1, body_bytes=100)
    waiting = [
        asyncio.create_task(pool.exchange(REQUEST, at(1))) for _ in range(pools.WAITERS_PER_CONNECTION + 1)
    ]
    await asyncio.sleep(0.05)
    with pytest.raises(NotSent) as caught:
        await pool.exchange(REQUEST, at(1))
    assert caught.value.code == "overloaded"
    await pool.close()
    faults = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(fault) for fault in faults] == [InDoubt] + [NotSent] * pools.WAITERS_PER_CONNECTION


async def test_a_cancelled_waiter_does_not_swallow_its_turn(serve: Any) -> None:
    async def answer(exchange: Any) -> None:
        await asyncio.sleep(0.1)
        await exchange.send(OK)

    server = await serve(answer)
    pool = Pool(server.url, connections=1, body_bytes=100)
    tasks = [asyncio.create_task(pool.exchange(REQUEST, at(2))) for _ in range(3)]
    await asyncio.sleep(0.05)
    tasks[1].cancel()
    await asyncio.gather(tasks[0], tasks[2])
    await pool.close()


async def test_a_cancelled_exchange_closes_its_connection(serve: Any) -> None:
    async def hang(exchange: Any) -> None:
        await asyncio.sleep(5)

    server = await serve(hang)
    pool = Pool(server.url, connections=1, body_bytes=100)
    task = asyncio.create_task(pool.exchange(REQUEST, at(2)))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.01)
    assert pool.open == 0
    await pool.close()


async def test_a_kept_connection_the_server_closed_is_passed_over_before_anything_is_written(
    serve: Any,
) -> None:
    async def once(exchange: Any) -> None:
        await exchange.send(OK)
        exchange.writer.close()

    server = await serve(once)
    pool = Pool(server.url, connections=4, body_bytes=100)
    for _ in range(5):
        assert (await pool.exchange(REQUEST, at(1))).body == b"ok"
        await asyncio.sleep(0.01)
    assert server.connections == 5
    await pool.close()


async def test_a_close_the_event_loop_has_not_seen_yet_is_seen_by_asking_the_kernel(serve: Any) -> None:
    """The server closes while our loop is busy: the FIN waits in the socket and no callback has run."""
    listening = socket.create_server(("127.0.0.1", 0))
    accepted: list[int] = []

    def run() -> None:
        for number in range(2):
            peer, _ = listening.accept()
            accepted.append(number)
            peer.recv(65536)
            peer.sendall(OK)
            if number == 0:
                peer.close()
            else:
                peer.recv(1)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    pool = Pool(f"http://127.0.0.1:{listening.getsockname()[1]}/", connections=1, body_bytes=100)
    assert (await pool.exchange(REQUEST, at(1))).body == b"ok"
    threading.Event().wait(0.1)  # the loop is held up on purpose
    assert (await pool.exchange(REQUEST, at(1))).body == b"ok"
    assert accepted == [0, 1]
    await pool.close()
    listening.close()


async def test_connections_idle_for_long_are_not_used_again(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "IDLE_S", 0.05)
    server = await serve(ok)
    pool = Pool(server.url, connections=4, body_bytes=100)
    await pool.exchange(REQUEST, at(1))
    await asyncio.sleep(0.1)
    await pool.exchange(REQUEST, at(1))
    assert server.connections == 2
    await pool.close()


async def test_a_server_that_says_close_is_believed(serve: Any) -> None:
    async def closing(exchange: Any) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")

    server = await serve(closing)
    pool = Pool(server.url, connections=4, body_bytes=100)
    await pool.exchange(REQUEST, at(1))
    await pool.exchange(REQUEST, at(1))
    assert server.connections == 2
    await pool.close()


async def test_after_close_nothing_is_sent(serve: Any) -> None:
    server = await serve(ok)
    pool = Pool(server.url, connections=4, body_bytes=100)
    await pool.close()
    with pytest.raises(NotSent) as caught:
        await pool.exchange(REQUEST, at(1))
    assert caught.value.code == "shutting_down"
    assert server.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x/",
        "http://",
        "http://user:pw@x/",
        "http://x/\r\nevil: 1",
        "http://x/a b",
        "http://ex\u00e4mple/",
    ],
)
def test_a_url_that_is_not_plain_refuses_to_start(url: str) -> None:
    with pytest.raises((ConfigError, ValueError)):
        Pool(url, connections=1, body_bytes=100)


async def test_a_name_that_resolves_to_the_metadata_service_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()

    async def rebound(*_: Any, **__: Any) -> list[Any]:
        return [(2, 1, 6, "", ("169.254.169.254", 80)), (10, 1, 6, "", ("::ffff:169.254.169.254", 80, 0, 0))]

    monkeypatch.setattr(loop, "getaddrinfo", rebound)
    pool = Pool("http://tools.example/", connections=1, body_bytes=100)
    with pytest.raises(NotSent) as caught:
        await pool.exchange(REQUEST, at(1))
    assert "may be connected to" in caught.value.detail
    await pool.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


async def test_tls_is_checked_against_the_trusted_certificates(serve: Any, certificate: Path) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    server = await serve(ok, serving)
    trusting = Pool(
        server.url,
        connections=2,
        body_bytes=100,
        tls=ssl.create_default_context(cafile=str(certificate / "cert.pem")),
    )
    for _ in range(3):
        assert (await trusting.exchange(REQUEST, at(2))).body == b"ok"
    assert server.connections == 1
    await trusting.close()
    default = Pool(server.url, connections=2, body_bytes=100)
    with pytest.raises(NotSent) as caught:
        await default.exchange(REQUEST, at(2))
    assert "CERTIFICATE_VERIFY_FAILED" in caught.value.detail
    assert len(server.exchanges) == 3
    await default.close()
