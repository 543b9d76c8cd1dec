"""``wardgate stdio``."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gateway.cli.output import NOT_DONE, fail, note

if TYPE_CHECKING:
    import asyncio


def stdio(
    url: Annotated[
        str,
        typer.Option(envvar="WARDGATE_URL", help="MCP endpoint of the gateway; /mcp/NAME for one upstream."),
    ] = "http://127.0.0.1:8700/mcp",
    key_env: Annotated[
        str, typer.Option(help="Environment variable that holds the agent key.")
    ] = "WARDGATE_KEY",
) -> None:
    """Connect a client that can only start a process to a running gateway.

    Exits when the client closes stdin or on SIGTERM.
    """
    import asyncio

    key = os.environ.get(key_env, "").strip()
    if not key:
        fail(
            f"The environment variable {key_env} is not set.",
            "Put the agent key there, in the client's 'env'.",
        )
    if not url.startswith(("http://", "https://")):
        fail(f"'{url}' is not an http or https address.", "Use the address 'wardgate serve' prints.")
    # A line on stdout that is not JSON-RPC breaks the client, so stdout is taken away from everybody else.
    wire = os.dup(1)
    os.dup2(2, 1)
    asyncio.run(_serve(url, key, wire))


async def _serve(url: str, key: str, wire: int) -> NoReturn:
    import asyncio
    import signal

    from gateway.cli.bridge import Bridge

    loop = asyncio.get_running_loop()
    lock = asyncio.Lock()
    stop = asyncio.Event()

    async def write_line(message: bytes) -> None:
        async with lock:  # one message is one line, whole
            try:
                await loop.run_in_executor(None, _write_all, wire, message + b"\n")
            except OSError:
                stop.set()  # the client is gone

    bridge = Bridge(url, key, write_line, lambda text: note(f"wardgate stdio: {text}"))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    work = asyncio.create_task(bridge.run(_stdin_lines(loop)))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
    await bridge.close()
    # Threads may be blocked for ever, reading stdin or writing to a client that does not read: leave them.
    os._exit(0 if stop.is_set() or work.exception() is None else NOT_DONE)


def _write_all(wire: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(wire, view) :]


async def _stdin_lines(loop: asyncio.AbstractEventLoop) -> AsyncIterator[bytes]:
    """Lines of stdin, whatever it is: a pipe, a file or a terminal. A line without end is refused."""
    import asyncio
    import threading

    from gateway.cli.bridge import MAX_LINE

    queue: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=64)

    def read() -> None:
        stdin = sys.stdin.buffer
        while line := stdin.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE:
                note("wardgate stdio: a line of more than 16 MB; stopping.")
                break
            asyncio.run_coroutine_threadsafe(queue.put(line), loop).result()
        asyncio.run_coroutine_threadsafe(queue.put(None), loop)

    threading.Thread(target=read, daemon=True, name="stdin").start()
    while (line := await queue.get()) is not None:
        yield line
