"""Two listening sockets on one event loop, and an orderly end.

Agents reach one port, operators and monitoring the other, so a network policy can tell them apart. On
SIGTERM or SIGINT the gateway says that it is not ready, refuses new calls with a retry hint, lets calls in
flight finish for ``server.drain_s``, and only then closes the journal. SIGHUP reloads.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn

from gateway.app import Gateway
from gateway.config import ServerConfig, load
from gateway.errors import ConfigError
from gateway.head import BoundedHead
from gateway.telemetry import logs

logger = logging.getLogger("wardgate.server")


class Addresses(NamedTuple):
    """Where a running gateway listens."""

    agents: str
    admin: str


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own: two servers share one loop, and one owner of signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(config_path: Path, *, ready: Callable[[Addresses], None] | None = None) -> None:
    """Run until SIGTERM or SIGINT. Raises ``ConfigError`` when it must not start."""
    config = load(config_path)
    logs.configure(config.telemetry.log_level, config.telemetry.log_format)
    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:  # not built for this platform: slower, and otherwise the same
        runner = asyncio.Runner()
    with runner:
        runner.run(_serve(config_path, config.server, ready))


async def _serve(path: Path, config: ServerConfig, ready: Callable[[Addresses], None] | None) -> None:
    # Ports first: a port that is taken must not leave a half-started gateway behind.
    agents_socket = _listen(config.host, config.port, "server.port")
    admin_socket = _listen(config.admin_host, config.admin_port, "server.admin_port")
    async with Gateway(path) as gateway:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, gateway.reload_soon)

        servers = [
            _Server(_settings(gateway.agents_app, config)),
            _Server(_settings(gateway.admin_app, config)),
        ]
        running = [
            asyncio.create_task(server.serve(sockets=[sock]))
            for server, sock in zip(servers, (agents_socket, admin_socket), strict=True)
        ]
        while not all(server.started for server in servers):
            if any(task.done() for task in running):
                break
            await asyncio.sleep(0.01)
        # A full collection goes through all there is, with the interpreter held: 20 to 100 ms in which
        # nobody is answered, and a reload brings one about. What is loaded by now stays, so it is left out.
        gc.collect()
        gc.freeze()
        addresses = Addresses(_url(agents_socket), _url(admin_socket))
        logger.info("listening", extra={"agents": addresses.agents, "admin": addresses.admin})
        if ready is not None:
            ready(addresses)

        await asyncio.wait([asyncio.create_task(stop.wait()), *running], return_when=asyncio.FIRST_COMPLETED)
        logger.info("draining", extra={"in_flight": gateway.limits.total})
        await gateway.drain(config.drain_s)
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*running)


def _settings(app: Any, config: ServerConfig) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        interface="asgi3",
        loop="none",
        http=BoundedHead,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # X-Forwarded-For from a client must not become its address
        # Longer than clients and load balancers keep theirs, or a request meets a connection just closed.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,  # calls have been drained before; this is for idle streams
    )


def _listen(host: str, port: int, key: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ConfigError(f"{key}: cannot listen on {host}:{port}: {error.strerror}") from error
    sock.setblocking(False)
    return sock


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
