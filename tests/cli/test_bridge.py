"""``wardgate stdio`` between a real client and a real server, and what it says when there is none."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from mcp import Client, StdioServerParameters

from tests.cli.running import WARDGATE, office


@pytest.fixture(scope="module")
def office_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with office(tmp_path_factory.mktemp("office") / "office.db") as where:
        yield where["url"]


def bridge(url: str) -> StdioServerParameters:
    return StdioServerParameters(
        command=WARDGATE[0], args=[*WARDGATE[1:], "stdio", "--url", url], env={"WARDGATE_KEY": "k"}
    )


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_both_eras_pass_through_with_calls_side_by_side(
    office_url: str, mode: Literal["auto", "legacy"]
) -> None:
    async with Client(bridge(office_url), mode=mode) as client:
        assert len((await client.list_tools()).tools) == 8
        results = await asyncio.gather(
            *(client.call_tool("get_customer", {"customer_id": f"C-100{n % 3 + 1}"}) for n in range(12))
        )
    assert [result.structured_content["id"] for result in results if result.structured_content] == [
        f"C-100{n % 3 + 1}" for n in range(12)
    ]


async def test_names_that_no_header_can_carry_are_still_called(office_url: str) -> None:
    async with Client(bridge(office_url)) as client:
        result = await client.call_tool("gibt_es_nicht_ü", {})
    assert result.is_error


def talk(
    url: str, *lines: str | dict[str, Any], env: dict[str, str] | None = None
) -> tuple[list[dict[str, Any]], str, int]:
    """Send lines, close stdin, and give back what came: messages, stderr and exit code."""
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    done = subprocess.run(
        [*WARDGATE, "stdio", "--url", url],
        input=text, capture_output=True, text=True, timeout=30,
        env={**os.environ, **({"WARDGATE_KEY": "k"} if env is None else env)},
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr, done.returncode


def test_requests_in_a_pipe_are_answered_before_it_exits(office_url: str) -> None:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    call = {"name": "list_invoices", "arguments": {}, "_meta": meta}
    answers, _, code = talk(office_url, {"jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": call})
    assert code == 0
    assert answers[0]["id"] == "a"
    assert "INV-204" in json.dumps(answers[0]["result"])


def test_without_a_gateway_each_request_gets_an_error_and_the_person_a_sentence() -> None:
    ping = {"jsonrpc": "2.0", "id": 7, "method": "ping"}
    answers, errors, code = talk("http://127.0.0.1:9/mcp", ping)
    assert code == 0
    assert answers[0]["id"] == 7
    assert "cannot be reached" in answers[0]["error"]["message"]
    assert "wardgate serve" in errors


def test_lines_that_are_no_message_are_answered_as_such(office_url: str) -> None:
    answers, _, _ = talk(office_url, "{oops", "[]", "   ")
    assert [answer["error"]["code"] for answer in answers] == [-32700, -32600]


def test_without_a_key_it_does_not_start_and_leaves_stdout_clean() -> None:
    env = {name: value for name, value in os.environ.items() if name != "WARDGATE_KEY"}
    done = subprocess.run([*WARDGATE, "stdio"], capture_output=True, text=True, timeout=30, env=env)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "WARDGATE_KEY is not set" in done.stderr


def test_sigterm_ends_it_at_once_even_while_a_client_holds_stdin_open(office_url: str) -> None:
    process = subprocess.Popen(
        [*WARDGATE, "stdio", "--url", office_url],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "WARDGATE_KEY": "k"},
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"[]\n")
    process.stdin.flush()
    process.stdout.readline()  # it is up
    before = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 0
    assert time.monotonic() - before < 2
    process.stdin.close()
    process.stdout.close()
    process.stderr.close() if process.stderr else None


async def test_cancelling_a_modern_request_closes_it_and_the_bridge_lives_on(office_url: str) -> None:
    async with Client(bridge(office_url)) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await client.call_tool("list_invoices", {})
        assert not (await client.call_tool("list_invoices", {})).is_error
