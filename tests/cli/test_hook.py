"""``wardgate hook``: what Claude Code's tool hook is told, and that whatever goes wrong stops the tool."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.gateway import Wardgate, counting
from tests.surfaces.http.support import configured

COMMAND = (sys.executable, "-m", "gateway.cli", "hook")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory) -> Iterator[Wardgate]:
    with counting(tmp_path_factory.mktemp("server")) as server:
        wardgate = configured(tmp_path_factory.mktemp("gateway"), server)
        try:
            yield wardgate.start()
        finally:
            wardgate.close()


class Session:
    """Claude Code, as far as a hook can tell: one event a process, JSON in and out."""

    def __init__(self, gateway: Wardgate, **environ: str) -> None:
        self.id = str(uuid.uuid4())
        self.environ = {
            "WARDGATE_HOOK_URL": gateway.agents_url,
            "WARDGATE_KEY": gateway.key(),
            "WARDGATE_HOOK_UPSTREAM": "laptop",
            **environ,
        }

    def run(self, given: bytes, *options: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
        env = {**os.environ, **self.environ, **environ}
        return subprocess.run([*COMMAND, *options], input=given, capture_output=True, env=env, timeout=60)

    def event(self, name: str, tool: str, use: str = "", **more: Any) -> bytes:
        use = use or f"toolu_{uuid.uuid4().hex}"
        common = {"session_id": self.id, "transcript_path": "/t.jsonl", "cwd": "/home/u"}
        named = {"hook_event_name": name, "tool_name": tool, "tool_use_id": use}
        return json.dumps({**common, "permission_mode": "default", **named, **more}).encode()

    def before(self, tool: str, use: str = "", /, *options: str, **arguments: Any) -> dict[str, Any] | None:
        return said(self.run(self.event("PreToolUse", tool, use, tool_input=arguments), *options))

    def after(self, tool: str, use: str, response: Any, **arguments: Any) -> dict[str, Any] | None:
        event = self.event("PostToolUse", tool, use, tool_input=arguments, tool_response=response)
        return said(self.run(event))


def said(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any] | None:
    """What a hook that ended well said; ``None`` for nothing."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["hookSpecificOutput"] if done.stdout else None


def stopped(done: subprocess.CompletedProcess[bytes]) -> str:
    assert done.returncode == 2, "with any other code the client runs the tool"
    assert not done.stdout
    return done.stderr.decode()


def test_an_allowed_tool_is_left_to_the_clients_own_permissions(gateway):
    assert Session(gateway).before("Bash", command="ls") is None


def test_with_a_grant_an_allowed_tool_skips_the_clients_prompt(gateway):
    answer = Session(gateway, WARDGATE_HOOK_GRANT="1").before("Bash", command="ls")
    assert answer["hookEventName"] == "PreToolUse" and answer["permissionDecision"] == "allow"
    assert Session(gateway).before("Bash", "", "--grant", command="ls")["permissionDecision"] == "allow"


def test_a_denied_tool_is_denied_with_words_for_the_model(gateway):
    answer = Session(gateway).before("Bash", command="rm -rf /", forbidden=True)
    assert answer["permissionDecision"] == "deny"
    assert "Above the limit." in answer["permissionDecisionReason"]
    assert "Ask for less." in answer["permissionDecisionReason"]
    assert "over_limit" in answer["permissionDecisionReason"]


@pytest.mark.parametrize("grant", ["", "1"])
def test_changed_arguments_are_handed_on_and_shown_to_a_person_unless_granted(gateway, grant):
    answer = Session(gateway, WARDGATE_HOOK_GRANT=grant).before("Bash", command="pay", amount=500)
    assert answer["updatedInput"] == {"command": "pay", "amount": 100}
    assert answer["permissionDecision"] == ("allow" if grant else "ask")


def test_what_became_of_a_tool_is_on_record(gateway):
    session = Session(gateway)
    session.before("Bash", "use-1", command="ls")
    assert session.after("Bash", "use-1", {"stdout": "a"}, command="ls") is None
    intent = next(r for r in gateway.records() if r.get("thread") == session.id)
    ends = [r for r in gateway.records() if r["call_id"] == intent["call_id"]]
    assert intent["surface"] == "hook" and intent["target"] == "laptop/Bash"
    assert [end["phase"] for end in ends] == ["intent", "result"] and ends[1]["status"] == "ok"


@pytest.mark.parametrize(("interrupted", "status"), [(False, "tool_error"), (True, "in_doubt")])
def test_a_failed_tool_is_on_record_and_an_interrupted_one_in_doubt(gateway, interrupted, status):
    session = Session(gateway)
    session.before("Bash", "use-1", command=session.id)
    event = session.event(
        "PostToolUseFailure", "Bash", "use-1", tool_input={}, error="exit 1", is_interrupt=interrupted
    )
    assert said(session.run(event)) is None
    call = next(r["call_id"] for r in gateway.records() if r.get("thread") == session.id)
    assert [r["status"] for r in gateway.records() if r["call_id"] == call and "status" in r] == [status]


def test_a_redacted_result_replaces_the_tools_own_in_its_own_shape(gateway):
    session = Session(gateway)
    session.before("Judged", "use-1", q=1)
    answer = session.after("Judged", "use-1", {"stdout": "card 1234567812345678", "interrupted": False})
    assert answer["updatedToolOutput"] == {"stdout": "card [redacted:card]", "interrupted": False}


def test_a_withheld_result_is_replaced_and_the_reason_told(gateway):
    session = Session(gateway)
    session.before("Judged", "use-1", q=1)
    answer = session.after("Judged", "use-1", {"stdout": "top secret", "code": 0, "lines": ["top secret"]})
    hidden = "[not shown by wardgate]"
    assert answer["updatedToolOutput"] == {"stdout": hidden, "code": 0, "lines": [hidden]}
    assert "secret_result" in answer["additionalContext"] and "top secret" not in json.dumps(answer)


def test_a_result_too_large_to_be_judged_is_not_shown_and_its_outcome_reported(gateway):
    session = Session(gateway)
    session.before("Bash", "use-1", command="big")
    answer = session.after("Bash", "use-1", {"stdout": "x" * 5_000_000})
    assert answer["updatedToolOutput"] == {"stdout": "[not shown by wardgate]"}
    call = next(r["call_id"] for r in gateway.records() if r.get("thread") == session.id)
    assert [r["status"] for r in gateway.records() if r["call_id"] == call and "status" in r] == ["ok"]


def test_a_tool_that_was_never_decided_shows_nothing(gateway):
    answer = Session(gateway).after("Bash", "never-asked", {"stdout": "x"})
    assert answer["updatedToolOutput"] == {"stdout": "[not shown by wardgate]"}


def test_a_repeated_event_asks_once(gateway):
    session = Session(gateway, WARDGATE_HOOK_GRANT="1")
    for _ in range(2):
        assert session.before("Bash", "use-1", command="once")["permissionDecision"] == "allow"
    assert sum(r.get("thread") == session.id for r in gateway.records()) == 1


# --------------------------------------------------------------------------- whatever goes wrong


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_when_the_gateway_cannot_be_reached_the_tool_does_not_run(gateway):
    session = Session(gateway, WARDGATE_HOOK_URL=f"http://127.0.0.1:{closed_port()}")
    event = session.event("PreToolUse", "Bash", tool_input={"command": "ls"})
    assert "does not answer" in stopped(session.run(event))


def test_when_the_outcome_cannot_be_reported_its_result_is_not_shown(gateway):
    session = Session(gateway, WARDGATE_HOOK_URL=f"http://127.0.0.1:{closed_port()}")
    answer = session.after("Bash", "use-1", {"stdout": "x"})
    assert answer["updatedToolOutput"] == {"stdout": "[not shown by wardgate]"}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        b'HTTP/1.1 200 OK\r\ncontent-length: 19\r\n\r\n{"action":"perhaps"}',
        b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{}",
        b"nonsense\r\n\r\n",
        "slow",
    ],
)
def test_an_answer_that_is_none_stops_the_tool(gateway, answer):
    server = socket.create_server(("127.0.0.1", 0))
    release = threading.Event()

    def serve() -> None:
        connection, _ = server.accept()
        connection.recv(65536)
        if answer == "slow":
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            release.wait(10)
        else:
            connection.sendall(answer)
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    url = f"http://127.0.0.1:{server.getsockname()[1]}"
    session = Session(gateway, WARDGATE_HOOK_URL=url, WARDGATE_HOOK_TIMEOUT_S="1")
    try:
        stopped(session.run(session.event("PreToolUse", "Bash", tool_input={"command": "ls"})))
    finally:
        release.set()
        thread.join()
        server.close()


@pytest.mark.parametrize("given", [b"", b"{", b"[]", b"{}", b'{"hook_event_name":"PreToolUse"}', b"\xff"])
def test_an_event_that_is_none_stops_the_tool(gateway, given):
    stopped(Session(gateway).run(given))


def test_without_a_key_or_with_a_wrong_one_the_tool_does_not_run(gateway):
    session = Session(gateway)
    event = session.event("PreToolUse", "Bash", tool_input={})
    assert "WARDGATE_KEY" in stopped(session.run(event, WARDGATE_KEY=""))
    assert said(session.run(event, WARDGATE_KEY="nonsense"))["permissionDecision"] == "deny"


def test_a_mistake_in_the_settings_stops_the_tool(gateway):
    session = Session(gateway)
    event = session.event("PreToolUse", "Bash", tool_input={})
    stopped(session.run(event, "--no-such-option"))
    stopped(session.run(event, WARDGATE_HOOK_URL="gopher://x"))
    stopped(session.run(event, WARDGATE_HOOK_TIMEOUT_S="soon"))
    answer = said(session.run(event, WARDGATE_HOOK_UPSTREAM="nowhere"))
    assert answer["permissionDecision"] == "deny"


@pytest.mark.parametrize("arguments", [[], "x", None, 7])
def test_arguments_that_are_none_are_denied(gateway, arguments):
    session = Session(gateway)
    answer = said(session.run(session.event("PreToolUse", "Bash", tool_input=arguments)))
    assert answer["permissionDecision"] == "deny"


def test_an_event_without_an_id_of_the_tool_use_stops_the_tool(gateway):
    session = Session(gateway)
    event = json.loads(session.event("PreToolUse", "Bash", tool_input={}))
    del event["tool_use_id"]
    assert "tool_use_id" in stopped(session.run(json.dumps(event).encode()))


def test_another_event_is_none_of_its_business(gateway):
    session = Session(gateway)
    done = session.run(session.event("Notification", "x", tool_input={}))
    assert done.returncode == 1 and not done.stdout


def test_an_answer_that_cannot_be_written_stops_the_tool(gateway):
    session = Session(gateway)
    event = session.event("PreToolUse", "Bash", tool_input={"forbidden": True})
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        env = {**os.environ, **session.environ}
        done = subprocess.run(COMMAND, input=event, stdout=full, stderr=subprocess.PIPE, env=env, timeout=60)
    assert done.returncode == 2


def test_where_policy_is_only_observed_nothing_is_granted_and_nothing_blocked(tmp_path):
    with counting(tmp_path) as server:
        wardgate = configured(tmp_path / "gateway", server, mode="observe")
        try:
            session = Session(wardgate.start(), WARDGATE_HOOK_GRANT="1")
            assert session.before("Bash", "use-1", command="x", forbidden=True) is None
            assert session.before("Bash", "use-2", command="x")["permissionDecision"] == "allow"
        finally:
            wardgate.close()


def test_it_starts_without_the_rest_of_the_command_line():
    code = (
        "import sys; sys.argv = ['wardgate', 'hook']; import gateway.cli.pretool as hook;"
        "loaded = {'typer', 'rich', 'pydantic', 'asyncio', 'msgspec'} & set(sys.modules);"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_says_what_it_does():
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--upstream" in done.stdout
