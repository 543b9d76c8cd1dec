"""A log line holds no secret and cannot be forged; a repeating message does not flood."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import logging
from pathlib import Path

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import pipeline
from gateway.errors import ConfigError, JournalError
from gateway.model import Revisions
from gateway.telemetry import logs
from tests.play import Stage
from tests.telemetry.scene import ALLOW, LOG, outcome, telemetry


@pytest.fixture
def written():
    """A function that gives the lines written so far; logging is put back afterwards."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    stream = io.StringIO()

    def configure(style="json", level="info"):
        logs.configure(level, style, stream)
        return lambda: stream.getvalue().splitlines()

    yield configure
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    logging.getLogger("uvicorn.access").disabled = False


def test_a_line_is_one_json_object_with_the_ids_given(written):
    lines = written()
    logging.getLogger("wardgate.test").warning(
        "call %s was blocked", "c1", extra={"call_id": "c1", "trace_id": "t1", "code": "no_rule_allows"}
    )
    [line] = map(json.loads, lines())
    assert line["message"] == "call c1 was blocked" and line["level"] == "warning"
    assert (line["call_id"], line["trace_id"], line["code"]) == ("c1", "t1", "no_rule_allows")


def test_text_is_for_people(written):
    lines = written("text")
    logging.getLogger("wardgate.test").error("upstream lost", extra={"upstream": "git"})
    assert lines()[0].endswith("ERROR   wardgate.test: upstream lost upstream=git")


def test_fields_nobody_allowed_are_left_out(written):
    lines = written()
    logging.getLogger("wardgate.test").warning("x", extra={"args_json": "CANARY", "result": "CANARY"})
    assert "CANARY" not in lines()[0]


@pytest.mark.parametrize(
    "secret",
    [
        "Authorization: Bearer CANARYabcdefgh",
        "bearer CANARY-token-value",
        "wgk_0123abcd_CANARYxxxxxxxxxxxx",
        "wgo_0123abcd_CANARYxxxxxxxxxxxx",
        "eyJhbGciOiJCANARY.eyJzdWIiOiIxMjM0.CANARYsignature",
        "password=CANARYpass",
        '"api_key": "CANARYkey"',
        "https://host/path?token=CANARYtoken&x=1",
    ],
)
def test_what_looks_like_a_credential_is_masked(written, secret):
    lines = written()
    logging.getLogger("wardgate.test").warning("got %s today", secret)
    assert "CANARY" not in lines()[0] and "***" in lines()[0]


def test_a_foreign_exception_shows_its_place_and_not_its_words(written):
    lines = written()
    try:
        json.loads('{"CANARY": nope')
    except ValueError as error:
        logging.getLogger("wardgate.test").error("failed", exc_info=error)
    try:
        raise KeyError("CANARY")
    except KeyError:
        logging.getLogger("wardgate.test").exception("failed otherwise")
    first, second = map(json.loads, lines())
    assert "CANARY" not in str(first) + str(second)
    assert first["error"] == "JSONDecodeError" and second["error"] == "KeyError"
    assert "test_logs.py" in second["where"]


def test_our_own_exceptions_speak_to_operators(written):
    lines = written()
    for error in (JournalError("journal_unavailable", "disk full"), ConfigError("server.port: taken")):
        logging.getLogger("wardgate.test").error("no", exc_info=error)
    assert "disk full" in lines()[0] and "server.port: taken" in lines()[1]


@given(st.text())
def test_no_value_can_start_a_line_or_steer_a_terminal(text):
    safe = logs.clean(text)
    assert not any(char in safe for char in "\r\n\x1b\x00\x7f\x9b\u202e\u2066\u2028\u200f")
    orjson.dumps(safe)  # whatever came in, it can be written


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_forged_line_stays_inside_its_own(written, style):
    lines = written(style)
    forged = 'ok\n{"level":"info","message":"all fine"}\r\x1b[2K\u202efake'
    logging.getLogger("wardgate.test").warning("tool %s", forged, extra={"target": forged})
    assert len(lines()) == 1
    assert "\x1b" not in lines()[0] and "\u202e" not in lines()[0]


def test_a_repeating_message_is_counted_instead_of_written(written):
    now = [0.0]
    repeats = logs.Repeats(lambda: now[0])

    def record(message="upstream %s lost"):
        return logging.LogRecord("wardgate", logging.WARNING, "", 0, message, ("git",), None)

    passed = sum(repeats.filter(record()) for _ in range(500))
    assert passed == logs.BURST
    assert repeats.filter(record("another"))
    now[0] = logs.WINDOW_S + 1
    after = record()
    assert repeats.filter(after) and after.suppressed == 500 - logs.BURST


def test_the_memory_of_repeats_is_bounded():
    repeats = logs.Repeats()
    for n in range(5000):
        repeats.filter(logging.LogRecord("wardgate", logging.INFO, "", 0, f"message {n}", (), None))
    assert len(repeats._seen) <= 1001


def test_a_wrong_number_of_arguments_loses_no_line(written):
    lines = written()
    logging.getLogger("wardgate.test").warning("%s and %s", "one")
    assert json.loads(lines()[0])["message"] == "%s and %s"


def test_a_long_message_is_cut(written):
    lines = written()
    logging.getLogger("wardgate.test").warning("x" * 100_000)
    assert len(lines()[0]) < logs.LONGEST + 300


async def test_every_line_of_a_call_carries_its_ids_and_no_other_does(written):
    lines = written()
    log = logging.getLogger("wardgate.test")
    log.info("before")
    watch = telemetry()
    told = []

    async def background():
        await asyncio.sleep(0.05)
        log.info("a task the call started, when the call is over")

    class Work(Stage):
        async def execute(self, call, dialogue):
            told.append((call.id, call.traceparent.split("-")[1]))
            log.info("deep inside")
            log.info("about another", extra={"call_id": "another"})
            self.task = asyncio.create_task(background())
            return await super().execute(call, dialogue)

    stage = Work(tool=LOG, verdicts=[ALLOW], outcome=outcome())
    parts = msgspec.structs.replace(stage.parts(), telemetry=watch)
    await asyncio.gather(*(pipeline.call(parts, stage.asked()) for _ in range(3)))
    log.info("after")
    await stage.task
    said = [json.loads(line) for line in lines()]
    inside = [(line["call_id"], line["trace_id"]) for line in said if line["message"] == "deep inside"]
    assert sorted(inside) == sorted(told) and len(set(told)) == 3
    assert not [line for line in said if line["message"] in ("before", "after") and "call_id" in line]
    assert all("trace_id" not in line for line in said if line.get("call_id") == "another")
    assert not [line for line in said if line["message"].startswith("a task") and "call_id" in line]


def test_urls_of_requests_are_not_logged(written):
    lines = written(level="debug")
    logging.getLogger("uvicorn.access").info('"GET /?token=CANARY"')
    logging.getLogger("httpx").info("HTTP Request: GET https://x/?q=CANARY")
    assert lines() == []


def test_every_field_the_gateway_logs_is_an_allowed_one():
    """What is not allowed is left out silently, so a typo would lose it."""
    used = set(Revisions.__struct_fields__)
    for path in Path(logs.__file__).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "extra" and isinstance(node.value, ast.Dict):
                used |= {key.value for key in node.value.keys if isinstance(key, ast.Constant)}
    assert used <= set(logs.FIELDS)
