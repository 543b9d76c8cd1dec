"""Supervised children: real processes that answer, misbehave and die."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from gateway.config_upstream import UpstreamConfig
from gateway.upstreams.mcp import child as children
from gateway.upstreams.mcp import stdio as mcp_stdio
from tests.talk import Talk


def text(outcome: Any) -> str:
    assert outcome.status == "ok", outcome
    return str(json.loads(outcome.result_json)["content"][0]["text"])


def running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def gone(pid: int, seconds: float = 5.0) -> bool:
    for _ in range(int(seconds / 0.05)):
        if not running(pid):
            return True
        await asyncio.sleep(0.05)
    return False


async def test_a_modern_server_of_the_official_sdk_answers(registry: Any, child: Any, call: Any) -> None:
    up = registry(up=child("modern.py"))
    assert text(await up.execute(call(name="echo", args={"text": "hé"}, deadline_s=20), None)) == "hé"
    info = up.info("up")
    assert (info.era, info.name, info.server_version, info.instructions) == (
        "modern",
        "modern",
        "1.2",
        "Echoes.",
    )
    assert [each["name"] for each in await up.definitions("up", "tool")] == ["echo", "fail", "count"]
    assert [each["uriTemplate"] for each in await up.definitions("up", "template")] == [
        "test://item/{number}"
    ]
    failed = await up.execute(call(name="fail"), None)
    assert failed.status == "tool_error" and b"Error executing tool fail" in failed.result_json
    read = await up.execute(call(name="test://item/7", kind="resource"), None)
    assert b"item 7" in read.result_json
    greeting = await up.execute(call(name="greet", kind="prompt", args={"name": "Ada"}), None)
    assert b"Hello Ada" in greeting.result_json


@pytest.mark.parametrize("flag", ["", "die-on-discover", "oldest"])
async def test_a_legacy_server_is_recognised_and_initialized(
    registry: Any, child: Any, call: Any, flag: str
) -> None:
    up = registry(up=child("legacy.py", flag))
    outcome = await up.execute(call(args={"text": "x"}), None)
    if flag == "die-on-discover":  # it died of the first question and is not asked that again
        assert outcome.status == "not_sent"
        await asyncio.sleep(0.25)
        outcome = await up.execute(call(args={"text": "x"}), None)
    assert text(outcome) == "x"
    assert up.info("up").era == "legacy"
    assert up.info("up").version == ("2024-11-05" if flag == "oldest" else "2025-11-25")
    assert await up.definitions("up", "prompt") is None


async def test_a_server_that_never_answers_discovery_is_taken_for_legacy(
    registry: Any, child: Any, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_stdio, "DISCOVER_S", 0.3)
    up = registry(up=child("legacy.py", "mute-discover"))
    assert text(await up.execute(call(args={"text": "x"}), None)) == "x"


async def test_requests_share_the_pipe_without_mixing_their_answers(
    registry: Any, child: Any, call: Any
) -> None:
    up = registry(up=child("legacy.py"))
    calls = [call(name="sleep", args={"seconds": 0.3 - n / 100, "text": f"n{n}"}) for n in range(30)]
    outcomes = await asyncio.gather(*(up.execute(each, None) for each in calls))
    assert [text(each) for each in outcomes] == [f"n{n}" for n in range(30)]
    assert max(each.upstream_ns for each in outcomes) < 3e9, "one after the other would take 5 s"


async def test_each_principal_has_a_child_of_its_own(
    registry: Any, child: Any, call: Any, principal: Any
) -> None:
    up = registry(up=child("legacy.py"))
    who = [principal("a"), principal("a"), principal("b"), principal("a", subject="user")]
    pids = [text(await up.execute(call(name="pid", who=each), None)) for each in who]
    assert pids[0] == pids[1]
    assert len(set(pids)) == 3


async def test_a_shared_child_serves_all(registry: Any, child: Any, call: Any, principal: Any) -> None:
    up = registry(up=child("legacy.py", shared=True))
    pids = {text(await up.execute(call(name="pid", who=principal(each)), None)) for each in "abc"}
    assert len(pids) == 1


async def test_the_number_of_children_is_bounded_and_idle_ones_make_room(
    registry: Any, child: Any, call: Any, principal: Any
) -> None:
    up = registry(up=child("legacy.py", children=2))
    first = int(text(await up.execute(call(name="pid", who=principal("a")), None)))
    busy = asyncio.create_task(
        up.execute(call(name="sleep", args={"seconds": 1.0}, who=principal("b")), None)
    )
    await asyncio.sleep(0.3)
    await up.execute(call(name="pid", who=principal("c")), None)
    assert await gone(first), "the idle one made room"
    again = asyncio.create_task(
        up.execute(call(name="sleep", args={"seconds": 0.5}, who=principal("c")), None)
    )
    await asyncio.sleep(0.1)
    refused = await up.execute(call(name="pid", who=principal("d")), None)
    assert (refused.status, refused.code) == ("not_sent", "overloaded")
    assert (await busy).status == (await again).status == "ok"


async def test_a_child_killed_under_a_call_leaves_it_in_doubt_and_is_started_again(
    registry: Any, child: Any, call: Any
) -> None:
    up = registry(up=child("legacy.py"))
    pid = int(text(await up.execute(call(name="pid"), None)))
    under_way = asyncio.create_task(up.execute(call(name="sleep", args={"seconds": 30}), None))
    await asyncio.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    outcome = await under_way
    assert (outcome.status, outcome.code) == ("in_doubt", "upstream_lost")
    assert up.status()[0].children == 0
    after = int(text(await up.execute(call(name="pid"), None)))
    assert after != pid
    assert up.status()[0].restarts == 1


async def test_a_crashing_server_is_tried_ever_more_seldom_and_costs_nobody_a_wait(
    registry: Any, child: Any, call: Any
) -> None:
    up = registry(up=child("legacy.py", "crash"))
    loop = asyncio.get_running_loop()
    end = loop.time() + 2.5
    outcomes = []
    while loop.time() < end:
        outcomes.append(await up.execute(call(), None))
        await asyncio.sleep(0.05)
    assert {(each.status, each.code) for each in outcomes} == {("not_sent", "upstream_unavailable")}
    assert 1 <= up.status()[0].restarts <= 4, "0.2 + 0.4 + 0.8 s of pauses fit into 2.5 s"
    assert any("restarting in" in each.detail for each in outcomes)
    assert up.status()[0].stderr == ("no licence found",)


async def test_closing_while_a_child_starts_leaves_no_process_behind(
    registry: Any, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "_TERM_S", 0.3)
    script = f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.1; done"
    up = registry(up=UpstreamConfig(command=("/bin/sh", "-c", script)))
    starting = asyncio.create_task(up.execute(call(), None))
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        await asyncio.sleep(0.01)
    await up.close()
    assert (await starting).status == "not_sent"
    assert await gone(int((tmp_path / "pid").read_text()), 1.0)


async def test_a_command_that_does_not_exist_was_not_sent(registry: Any, call: Any) -> None:
    up = registry(up=UpstreamConfig(command=("/nonexistent/server",)))
    outcome = await up.execute(call(), None)
    assert (outcome.status, outcome.code) == ("not_sent", "upstream_unavailable")


async def test_what_a_child_started_ends_with_it(registry: Any, child: Any, call: Any) -> None:
    up = registry(up=child("legacy.py"))
    pid = int(text(await up.execute(call(name="pid"), None)))
    stubborn = int(text(await up.execute(call(name="grandchild"), None)))
    await asyncio.sleep(0.2)
    assert running(stubborn)
    await up.close()
    assert await gone(pid) and await gone(stubborn)


async def test_what_a_child_started_ends_also_when_it_dies_by_itself(
    registry: Any, child: Any, call: Any
) -> None:
    up = registry(up=child("legacy.py"))
    stubborn = int(text(await up.execute(call(name="grandchild"), None)))
    outcome = await up.execute(call(name="die"), None)
    assert (outcome.status, outcome.code) == ("in_doubt", "upstream_lost")
    assert await gone(stubborn)


async def test_the_child_sees_nothing_of_the_gateways_environment(
    registry: Any, child: Any, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDGATE_STORAGE_KEY", "secret")
    monkeypatch.setenv("UPSTREAM_TOKEN", "for-the-upstream")
    up = registry(up=child("legacy.py", env={"TOKEN": "${UPSTREAM_TOKEN}"}))
    seen = json.loads(text(await up.execute(call(name="env"), None)))
    assert seen["TOKEN"] == "for-the-upstream"
    assert set(seen) <= {"PATH", "HOME", "LANG", "TOKEN", "LC_CTYPE", "PWD", "SHLVL", "_"}


async def test_a_call_beyond_its_deadline_is_in_doubt_and_the_server_is_told(
    registry: Any, child: Any, call: Any
) -> None:
    up = registry(up=child("legacy.py"))
    await up.execute(call(), None)
    outcome = await up.execute(call(name="sleep", args={"seconds": 1}, deadline_s=0.2), None)
    assert (outcome.status, outcome.code) == ("in_doubt", "upstream_timeout")
    assert text(await up.execute(call(args={"text": "still there"}), None)) == "still there"


async def test_garbage_is_ignored_up_to_a_limit(registry: Any, child: Any, call: Any) -> None:
    up = registry(up=child("legacy.py"))
    assert text(await up.execute(call(name="garbage", args={"lines": 50}), None)) == "after garbage"
    outcome = await up.execute(call(name="garbage", args={"lines": 100_000}), None)
    assert (outcome.status, outcome.code) == ("in_doubt", "upstream_lost")


async def test_a_result_beyond_the_limit_is_withheld_and_the_child_lives_on(
    registry: Any, child: Any, call: Any
) -> None:
    up = registry(up=child("legacy.py"), result_bytes=50_000)
    pid = text(await up.execute(call(name="pid"), None))
    outcome = await up.execute(call(name="big", args={"bytes": 500_000}), None)
    assert (outcome.status, outcome.code, outcome.result_json) == ("withheld", "result_too_large", b"")
    just_over = await up.execute(call(name="big", args={"bytes": 50_000}), None)
    assert (just_over.status, just_over.code) == ("withheld", "result_too_large")
    noted = await up.execute(call(name="big-note", args={"bytes": 500_000}), None)
    assert text(noted) == "after a big note"
    assert text(await up.execute(call(name="pid"), None)) == pid


async def test_progress_comes_in_order_under_the_clients_own_token(
    registry: Any, child: Any, call: Any
) -> None:
    up = registry(up=child("legacy.py", shared=True))

    async def run(token: str) -> list[Any]:
        talk = Talk()
        asked = call(
            name="progress", args={"steps": 20}, client_meta_json=b'{"progressToken":"%b"}' % token.encode()
        )
        assert text(await up.execute(asked, talk)) == "done"
        return [json.loads(note)["params"] for note in talk.notes]

    first, second = await asyncio.gather(run("same"), run("same"))
    expected = [{"progressToken": "same", "progress": step} for step in range(20)]
    assert first == second == expected, "each client sees the progress of its own call only"


async def test_log_messages_reach_their_principal_and_never_leave_a_shared_child(
    registry: Any, child: Any, call: Any
) -> None:
    for shared, expected in ((False, 1), (True, 0)):
        up = registry(up=child("legacy.py", shared=shared))
        talk = Talk()
        assert text(await up.execute(call(name="log", args={"text": "secret"}), talk)) == "logged"
        assert len(talk.notes) == expected


async def test_a_client_that_fails_to_take_a_notification_loses_only_that(
    registry: Any, child: Any, call: Any
) -> None:
    class Gone(Talk):
        async def notify(self, message: bytes) -> None:
            raise ConnectionResetError

    up = registry(up=child("legacy.py"))
    assert text(await up.execute(call(name="log", args={"text": "x"}), Gone())) == "logged"


async def test_a_client_that_does_not_read_cannot_hold_a_call_beyond_its_deadline(
    registry: Any, child: Any, call: Any
) -> None:
    class Slow(Talk):
        async def notify(self, message: bytes) -> None:
            await asyncio.sleep(60)

    up = registry(up=child("legacy.py"))
    await up.execute(call(), None)
    outcome = await up.execute(call(name="log", args={"text": "x"}, deadline_s=0.3), Slow())
    assert (outcome.status, outcome.code) == ("in_doubt", "upstream_timeout")


async def test_a_changed_list_is_reported_and_not_passed_on(registry: Any, child: Any, call: Any) -> None:
    up = registry(up=child("legacy.py"))
    changed: list[str] = []
    up.on_list_changed = changed.append
    assert text(await up.execute(call(name="changed"), None)) == "changed"
    assert changed == ["up"]


async def test_what_the_server_asks_of_the_client_is_refused(registry: Any, child: Any, call: Any) -> None:
    up = registry(up=child("legacy.py"))
    error = json.loads(text(await up.execute(call(name="ask"), None)))
    assert error["code"] == -32601


async def test_a_second_answer_and_one_for_nobody_are_dropped(registry: Any, child: Any, call: Any) -> None:
    up = registry(up=child("legacy.py"))
    assert text(await up.execute(call(name="twice"), None)) == "first"
    outcome = await up.execute(call(name="wrong-id", deadline_s=0.3), None)
    assert (outcome.status, outcome.code) == ("in_doubt", "upstream_timeout")
    assert text(await up.execute(call(args={"text": "fine"}), None)) == "fine"


async def test_stderr_is_kept_and_logged_without_escape_sequences(
    registry: Any, child: Any, call: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="wardgate.upstreams")
    up = registry(up=child("legacy.py"))
    evil = "\x1b[31mred\x1b[0m \x1b]0;title\x07and\rCR \u2028line\x00"
    await up.execute(call(name="stderr", args={"text": evil}), None)
    await asyncio.sleep(0.1)
    assert "upstream up: red andCR line" in [record.getMessage() for record in caplog.records]


def test_a_line_split_anywhere_and_without_end_is_bounded() -> None:
    class Listener:
        def __init__(self) -> None:
            self.lines: list[bytes] = []
            self.large: list[bytes] = []

        def line(self, line: bytes) -> None:
            self.lines.append(line)

        def oversized(self, beginning: bytes) -> None:
            self.large.append(beginning)

        def exited(self, _: Any) -> None: ...

    listener = Listener()
    reading = children.Child("up", listener, 10)
    for piece in (b"12", b"34\n\n5", b"6\n" + b"x" * 8, b"xxx", b"y" * 5, b"z\n7", b"8\n"):
        reading.pipe_data_received(1, piece)
    assert listener.lines == [b"1234", b"56", b"78"]
    assert listener.large == [b"x" * 11]
