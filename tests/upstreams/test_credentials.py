"""Credentials for upstreams: whose they are, where they come from, and that they change without a pause."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config_upstream import CredentialsConfig, SecretConfig, UpstreamConfig
from gateway.errors import ConfigError, UpstreamError
from gateway.upstreams.secrets import credentials, secret
from gateway.upstreams.secrets.credentials import Credentials
from gateway.upstreams.secrets.secret import FromCommand, FromFile, Unusable, header_value

DONE = b'{"content":[{"type":"text","text":"done"}]}'


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look every 20 ms instead of every second, and renew as often as asked."""
    monkeypatch.setattr(credentials, "LOOK_S", 0.02)
    monkeypatch.setattr(credentials, "RETRY_S", 0.05)
    monkeypatch.setattr(credentials, "RENEW_S", 0.2)


def put(path: Path, text: str, mode: int = 0o600) -> Path:
    """Replace a file whole, as tools that rotate secrets do."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text)
    beside.chmod(mode)
    beside.replace(path)
    return path


def helper(folder: Path, body: str) -> dict[str, Any]:
    """A command that runs ``body`` and leaves a line in ``runs`` each time."""
    script = folder / "helper.py"
    script.write_text(
        f"import os, sys, time, json\nopen({str(folder / 'runs')!r}, 'a').write('run\\n')\n{body}"
    )
    return {"command": [sys.executable, "-I", str(script)], "timeout_s": 0.5 if "sleep" in body else 10}


def runs(folder: Path) -> int:
    path = folder / "runs"
    return len(path.read_text().splitlines()) if path.exists() else 0


async def until(true: Callable[[], Any], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def sent(server: Any) -> list[str | None]:
    """The credentials of the calls that arrived, in order."""
    return [each.header("authorization") for each in server.exchanges if each.method == "tools/call"]


async def answered(exchange: Any) -> None:
    await exchange.result(DONE)


def only(token: Callable[[], str]) -> Callable[[Any], Any]:
    """A server that takes one token at a time."""

    async def answer(exchange: Any) -> None:
        if exchange.header("authorization") == f"Bearer {token()}":
            await exchange.result(DONE)
        else:
            await exchange.json(b'{"error":"invalid_token"}', "401 Unauthorized")

    return answer


# ------------------------------------------------------------------------------------------- sources


async def test_a_file_is_used_without_its_line_end_and_a_replaced_one_without_a_restart(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any, tmp_path: Path
) -> None:
    token = put(tmp_path / "token", "first\n")
    server = await serve(modern(answered))
    up = registry(up=at_url(server, credentials={"secret": {"file": token}}))
    await up.start()
    assert (await up.execute(call(), None)).status == "ok"
    put(token, "second\r\n")
    await until(lambda: up.credentials()[0].results["changed"] == 2)
    assert (await up.execute(call(), None)).status == "ok"
    assert sent(server) == ["Bearer first", "Bearer second"]


async def test_the_links_of_a_mounted_secret_may_be_swapped_under_load_and_no_call_fails(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any, tmp_path: Path
) -> None:
    """As Kubernetes does it: token → ..data/token, ..data → ..2026_1, and ..data is replaced by rename.

    The server takes the new token only from the moment of the swap, so the first call after it is refused
    and must be carried out all the same.
    """
    for number in range(4):
        (tmp_path / f"..{number}").mkdir()
        put(tmp_path / f"..{number}" / "token", f"token-{number}", 0o644)
    (tmp_path / "..data").symlink_to("..0")
    (tmp_path / "token").symlink_to("..data/token")
    current = 0
    server = await serve(modern(only(lambda: f"token-{current}")))
    up = registry(up=at_url(server, credentials={"secret": {"file": tmp_path / "token"}}))
    await up.start()
    stop = False

    async def agent() -> list[str]:
        found = []
        while not stop:
            found.append((await up.execute(call(), None)).status)
        return found

    agents = [asyncio.create_task(agent()) for _ in range(4)]
    for number in range(1, 4):
        await asyncio.sleep(0.25)
        (tmp_path / "..tmp").symlink_to(f"..{number}")
        (tmp_path / "..tmp").replace(tmp_path / "..data")
        current = number
    await asyncio.sleep(0.25)
    stop = True
    statuses = [status for each in await asyncio.gather(*agents) for status in each]
    assert len(statuses) > 50 and set(statuses) == {"ok"}
    assert {f"Bearer token-{number}" for number in range(4)} == set(sent(server))


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (b"", 0o600, "empty"),
        (b"\n\n", 0o600, "empty"),
        (b"x" * (secret.MAX_BYTES + 1), 0o600, "more than"),
        (b"\x00\xff\xfe", 0o600, "UTF-8"),
        (b"a\r\nX-Admin: 1", 0o600, "header value"),
        (b"a\0b", 0o600, "header value"),
        ("clé".encode(), 0o600, "header value"),
        (b" padded", 0o600, "header value"),
        (b"good", 0o666, "everybody can write"),
        (b"good", 0o000, "opened"),
        (None, 0, "opened"),
    ],
)
async def test_a_file_without_a_usable_secret_refuses_calls_as_not_sent(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any, tmp_path: Path,
    content: bytes | None, mode: int, why: str,
) -> None:  # fmt: skip
    if mode == 0 and content is not None and os.getuid() == 0:
        pytest.skip("root reads everything")
    token = tmp_path / "token"
    if content is not None:
        token.write_bytes(content)
        token.chmod(mode)
    server = await serve(modern(answered))
    up = registry(up=at_url(server, credentials={"secret": {"file": token}}))
    await up.start()
    outcome = await up.execute(call(), None)
    assert (outcome.status, outcome.code) == ("not_sent", "credential_unavailable")
    assert why in outcome.detail
    assert server.exchanges == []
    # ... and mending it is all there is to do.
    token.unlink(missing_ok=True)
    put(token, "mended")
    await until(lambda: up.credentials()[0].ok == 1)
    assert (await up.execute(call(), None)).status == "ok"


async def test_a_named_pipe_or_a_folder_is_no_file_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(Unusable, match="regular"):
            await asyncio.wait_for(FromFile(path).read(), 2)


async def test_the_last_good_secret_is_used_for_a_bounded_time(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any, tmp_path: Path
) -> None:
    token = put(tmp_path / "token", "good")
    server = await serve(modern(answered))
    up = registry(up=at_url(server, credentials={"keep_s": 0.4, "secret": {"file": token}}))
    await up.start()
    token.unlink()
    await until(lambda: up.credentials()[0].kept == 1)
    assert (await up.execute(call(), None)).status == "ok"
    await until(lambda: up.credentials()[0].unavailable == 1)
    assert (await up.execute(call(), None)).code == "credential_unavailable"
    put(token, "again")
    await until(lambda: up.credentials()[0].ok == 1)
    assert (await up.execute(call(), None)).status == "ok"
    assert sent(server) == ["Bearer good", "Bearer again"]


async def test_a_command_prints_the_token_and_gets_a_minimal_environment(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("OTHER_SECRET", "not-for-you")
    monkeypatch.setenv("VAULT_ADDR", "http-vault")
    body = "print('-'.join([os.environ['VAULT_ADDR'], str('OTHER_SECRET' in os.environ)]))"
    source = {**helper(tmp_path, body), "pass_env": ["VAULT_ADDR"]}
    server = await serve(modern(answered))
    up = registry(up=at_url(server, credentials={"secret": source}))
    await up.start()
    for _ in range(50):
        assert (await up.execute(call(), None)).status == "ok"
    assert set(sent(server)) == {"Bearer http-vault-False"}
    assert runs(tmp_path) == 1, "never because of a call"


@pytest.mark.parametrize(
    "form",
    [
        "{'token': token, 'expires_at': time.time() + 1}",
        "{'kind': 'ExecCredential', 'status': {'token': token, 'expirationTimestamp':"
        " __import__('datetime').datetime.fromtimestamp(time.time() + 1, __import__('datetime').timezone.utc)"
        ".isoformat()}}",
    ],
)
async def test_a_token_that_expires_is_renewed_before_that(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any, tmp_path: Path, form: str
) -> None:
    body = (
        f"token = 'token-%d' % len(open({str(tmp_path / 'runs')!r}).readlines())\nprint(json.dumps({form}))"
    )
    server = await serve(modern(answered))
    up = registry(up=at_url(server, credentials={"secret": helper(tmp_path, body)}))
    await up.start()
    await up.execute(call(), None)
    await until(lambda: up.credentials()[0].results["changed"] >= 2)
    assert (await up.execute(call(), None)).status == "ok"
    first, second = sent(server)[:2]
    assert first == "Bearer token-1" and second != first


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("time.sleep(60)", "did not end"),
        ("print('x' * 100_000)", "more than"),
        ("while True: sys.stdout.write('x' * 65536)", "more than"),
        ("sys.exit(3)", "ended with 3"),
        ("print('secret-in-error'); sys.stderr.write('secret-in-error'); sys.exit(1)", "ended with 1"),
        ("pass", "empty"),
        ("print('{\"token\": 7}')", "begins like JSON"),
        ("print('{\"tok')", "begins like JSON"),
        ("print('{}')", "no token"),
        ("print(json.dumps({'token': 'x', 'expires_at': 5}))", "had expired"),
        ("print(json.dumps({'token': 'x', 'expires_at': 'soon'}))", "no time"),
        ("print(json.dumps({'token': 'x', 'expires_at': '2030-01-01T00:00:00'}))", "no time zone"),
        ("print(json.dumps({'token': 'x', 'expires_at': 1e300}))", "no time"),
        ("print('two\\nlines')", "header value"),
        ("sys.stdout.buffer.write(b'\\xff\\x00')", "UTF-8"),
    ],
)
async def test_a_command_that_misbehaves_gives_no_secret_and_is_not_run_for_each_call(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any, tmp_path: Path, body: str, why: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    server = await serve(modern(answered))
    up = registry(up=at_url(server, credentials={"secret": helper(tmp_path, body)}))
    await up.start()
    before = runs(tmp_path)
    details = {(await up.execute(call(), None)).detail for _ in range(100)}
    assert all(why in detail for detail in details), details
    assert runs(tmp_path) <= before + 2, "pauses grow; calls do not run it"
    assert "secret-in-error" not in caplog.text + str(details)


async def test_a_command_ends_with_everything_it_started(tmp_path: Path) -> None:
    body = (
        "import subprocess\np = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid))\ntime.sleep(99)"
    )
    source = helper(tmp_path, body)
    with pytest.raises(Unusable, match="did not end"):
        await FromCommand(tuple(source["command"]), (), 1.0).read()
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: not _runs(pid))


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
    except FileNotFoundError:
        return False


@given(st.text(max_size=40))
def test_whatever_a_source_says_cannot_begin_another_header(text: str) -> None:
    mine = Credentials("up", UpstreamConfig(url="http://h/", credentials={"secret": {"env": "PATH"}}))
    try:
        block = mine._own._fit(text)
    except Unusable:
        return
    assert block.startswith(b"Authorization: Bearer ") and block.endswith(b"\r\n")
    assert block.count(b"\n") == 1 and header_value(text) == text


# --------------------------------------------------------------------------------------------- 401


async def test_after_401_a_new_secret_is_read_once_and_the_call_sent_once_more(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(credentials, "LOOK_S", 60.0)  # nothing but the refusal makes it read
    token = put(tmp_path / "token", "old")
    valid = "old"
    server = await serve(modern(only(lambda: valid)))
    up = registry(up=at_url(server, credentials={"secret": {"file": token}}))
    await up.start()
    put(token, valid := "new")
    outcomes = await asyncio.gather(*(up.execute(call(), None) for _ in range(20)))
    assert {each.status for each in outcomes} == {"ok"}
    [state] = up.credentials()
    assert state.results == {"changed": 2, "unchanged": 0, "failed": 0}
    assert state.refused == state.sent_again >= 1
    assert sent(server).count("Bearer new") == 20


async def test_an_upstream_that_refuses_every_secret_makes_us_neither_read_nor_send_again(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any, tmp_path: Path
) -> None:
    server = await serve(modern(only(lambda: "never")))
    up = registry(up=at_url(server, credentials={"secret": helper(tmp_path, "print('always')")}))
    await up.start()
    for _ in range(30):
        outcome = await up.execute(call(), None)
        assert (outcome.status, outcome.code) == ("failed", "credential_refused")
    assert len(sent(server)) == 30, "the same secret again would be refused again"
    assert runs(tmp_path) <= 5
    [state] = up.credentials()
    assert (state.refused, state.sent_again) == (30, 0)


async def test_a_401_without_a_credential_of_ours_is_what_it_was(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any
) -> None:
    server = await serve(modern(only(lambda: "x")))
    up = registry(up=at_url(server))
    outcome = await up.execute(call(), None)
    assert (outcome.status, outcome.code) == ("failed", "upstream_error")
    assert len(sent(server)) == 1


async def test_a_call_sent_again_keeps_what_became_of_it(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any, tmp_path: Path
) -> None:
    """The second sending is lost: in doubt, although the first was refused."""
    token = put(tmp_path / "token", "old")

    async def answer(exchange: Any) -> None:
        if exchange.header("authorization") == "Bearer old":
            put(token, "new")
            await exchange.json(b"{}", "401 Unauthorized")
        else:
            exchange.writer.close()

    server = await serve(modern(answer))
    up = registry(up=at_url(server, credentials={"secret": {"file": token}}))
    await up.start()
    outcome = await up.execute(call(), None)
    assert (outcome.status, outcome.code) == ("in_doubt", "upstream_lost")
    assert len(sent(server)) == 2


# ------------------------------------------------------------------------------------------- whose


def divided(folder: Path, **more: Any) -> dict[str, Any]:
    def at(name: str) -> dict[str, Any]:
        return {"file": put(folder / name, f"of-{name}")}

    return {
        "secret": at("upstream"),
        "agents": {"alice": at("alice"), "bob": at("bob")},
        "subjects": {"ada": {**at("ada"), "tenant": "t"}},
        **more,
    }


async def test_each_principal_has_its_own_and_nobody_has_anothers(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any, principal: Any, tmp_path: Path
) -> None:
    server = await serve(modern(answered))
    up = registry(up=at_url(server, credentials=divided(tmp_path)))
    await up.start()
    cases = {
        "alice": principal("alice"),
        "bob": principal("bob"),
        "ada": principal("alice", subject="ada"),  # the end user's before the agent's
        "bob ": principal("bob", subject="somebody"),
    }
    for expected, who in cases.items():
        assert (await up.execute(call(who=who), None)).status == "ok"
        assert sent(server)[-1] == f"Bearer of-{expected.strip()}"
    refused = await up.execute(call(who=principal("mallory")), None)
    assert (refused.status, refused.code) == ("not_sent", "credential_unavailable")
    stranger = msgspec.structs.replace(principal("mallory", subject="ada"), tenant="other")
    assert (await up.execute(call(who=stranger), None)).status == "not_sent"
    with pytest.raises(UpstreamError):  # the server answers lists like calls
        await up.definitions("up", "tool")
    own = {each.header("authorization") for each in server.exchanges if each.method != "tools/call"}
    assert own == {"Bearer of-upstream"}


async def test_falling_back_on_the_upstreams_own_has_to_be_said(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any, principal: Any, tmp_path: Path
) -> None:
    server = await serve(modern(answered))
    up = registry(up=at_url(server, credentials=divided(tmp_path, fallback=True)))
    await up.start()
    assert (await up.execute(call(who=principal("mallory")), None)).status == "ok"
    assert sent(server) == ["Bearer of-upstream"]
    alone = CredentialsConfig.model_validate({"secret": {"env": "HOME"}})
    emptied = CredentialsConfig.model_validate({"secret": {"env": "HOME"}, "agents": {}})
    assert alone.fallback and not emptied.fallback, "removing the last agent must not share the secret"


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_two_agents_under_load_never_mix(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any, principal: Any, tmp_path: Path, era: str
) -> None:
    """Every request that carries an agent's name carries that agent's credential, also while both rotate."""
    sessions = 0

    async def legacy(exchange: Any) -> None:
        nonlocal sessions
        if exchange.method == "initialize":
            sessions += 1
            await exchange.result(
                b'{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},'
                b'"serverInfo":{"name":"raw","version":"1"}}',
                b"mcp-session-id: s%d\r\n" % sessions,
            )
        elif exchange.method == "tools/call":
            await asyncio.sleep(0)
            await exchange.result(DONE)
        else:
            await exchange.json(b"", "202 Accepted" if exchange.id == 0 else "400 Bad Request")

    server = await serve(modern(answered) if era == "modern" else legacy)
    up = registry(up=at_url(server, credentials=divided(tmp_path), connections=4))
    await up.start()

    async def agent(name: str) -> None:
        for number in range(150):
            asked = call(who=principal(name), args={"from": name})
            assert (await up.execute(asked, None)).status == "ok"
            if number % 50 == 0:
                put(tmp_path / name, f"of-{name}-{number}")

    await asyncio.gather(*(agent(name) for name in ("alice", "bob") for _ in range(3)))
    calls = [each for each in server.exchanges if each.method == "tools/call"]
    assert len(calls) == 900
    by_session: dict[str, set[str]] = {}
    for each in calls:
        name = json.loads(each.body)["params"]["arguments"]["from"]
        credential = each.header("authorization")
        assert credential.startswith(f"Bearer of-{name}"), (name, credential)
        by_session.setdefault(each.header("mcp-session-id") or "", set()).add(name)
    if era == "legacy":
        assert all(len(names) == 1 for names in by_session.values()) and len(by_session) == 2
    assert len(set(map(str, sent(server)))) > 2, "they did rotate"


# ------------------------------------------------------------------------------------------- stdio


async def test_each_child_has_its_principals_secret_and_none_of_the_others(
    registry: Any, call: Any, child: Any, principal: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNRELATED", "x")
    up = registry(up=child("legacy.py", credentials=divided(tmp_path, variable="TOKEN")))
    await up.start()
    for name in ("alice", "bob"):
        outcome = await up.execute(call(name="env", who=principal(name)), None)
        env = json.loads(json.loads(outcome.result_json)["content"][0]["text"])
        assert env["TOKEN"] == f"of-{name}"
        others = {"of-alice", "of-bob", "of-ada", "of-upstream"} - {f"of-{name}"}
        assert not others & set(env.values()) and "UNRELATED" not in env
    refused = await up.execute(call(name="env", who=principal("mallory")), None)
    assert (refused.status, refused.code) == ("not_sent", "credential_unavailable")


async def test_another_secret_takes_another_child_and_the_old_one_finishes_its_calls(
    registry: Any, call: Any, child: Any, principal: Any, tmp_path: Path
) -> None:
    up = registry(up=child("legacy.py", credentials=divided(tmp_path, variable="TOKEN")))
    await up.start()
    who = principal("alice")

    async def said(name: str, **args: Any) -> str:
        outcome = await up.execute(call(name=name, args=args, who=who), None)
        assert outcome.status == "ok", outcome
        return str(json.loads(outcome.result_json)["content"][0]["text"])

    before = int(await said("pid"))
    slow = asyncio.create_task(said("sleep", seconds=0.6, text="finished"))
    await asyncio.sleep(0.1)
    put(tmp_path / "alice", "renewed")
    await until(lambda: up.credentials()[0].results["changed"] == 5)
    assert json.loads(await said("env"))["TOKEN"] == "renewed"
    after = int(await said("pid"))
    assert after != before and not slow.done()
    assert await slow == "finished"
    await until(lambda: not _runs(before))
    assert int(await said("pid")) == after
    assert next(iter(up.status())).restarts == 0


async def test_several_lines_are_fine_in_an_environment(
    registry: Any, call: Any, child: Any, tmp_path: Path
) -> None:
    pem = "-----BEGIN KEY-----\nabc\n-----END KEY-----"
    source = {"secret": {"file": put(tmp_path / "pem", pem + "\n")}, "variable": "PEM"}
    up = registry(up=child("legacy.py", credentials=source))
    await up.start()
    outcome = await up.execute(call(name="env"), None)
    assert json.loads(json.loads(outcome.result_json)["content"][0]["text"])["PEM"] == pem


# ------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("upstream", "says"),
    [
        ({"url": "http://h/", "credentials": {"secret": {"env": "A", "file": "/x"}}}, "only one"),
        ({"url": "http://h/", "credentials": {"secret": {"command": []}}}, "empty"),
        ({"url": "http://h/", "credentials": {"secret": {"env": "A*"}}}, "pattern"),
        ({"url": "http://h/", "credentials": {"agents": {"a": {}}}}, "agents.a"),
        ({"url": "http://h/", "credentials": {"value": "x", "secret": {"env": "A"}}}, "once"),
        ({"url": "http://h/", "credentials": {"value": "${secret}${B}", "secret": {"env": "A"}}}, "once"),
        ({"url": "http://h/", "credentials": {"fallback": True, "agents": {"a": {"env": "A"}}}}, "fall back"),
        (
            {"url": "http://h/", "credentials": {"variable": "V", "secret": {"env": "A"}}},
            "'variable'|variable",
        ),
        ({"command": ["x"], "credentials": {"secret": {"env": "A"}}}, "variable"),
        (
            {"url": "http://h/", "headers": {"authorization": "x"}, "credentials": {"secret": {"env": "A"}}},
            "remove one",
        ),
        (
            {
                "command": ["x"],
                "shared": True,
                "credentials": {"variable": "V", "agents": {"a": {"env": "A"}}},
            },
            "shared",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_at_load(upstream: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        UpstreamConfig.model_validate(upstream)


@pytest.mark.parametrize("header", ["Host", "Content-Length", "a b", "x\r\ny", "Wardgate-Assertion"])
def test_a_header_that_is_not_ours_to_set_is_refused(header: str) -> None:
    config = UpstreamConfig(url="http://h/", credentials={"header": header, "secret": {"env": "HOME"}})
    with pytest.raises(ConfigError):
        Credentials("up", config)


def test_a_secret_is_in_no_text_about_itself() -> None:
    for shown in (repr(SecretConfig(env="HOME")), repr(CredentialsConfig(secret={"env": "HOME"}))):
        assert os.environ["HOME"] not in shown


async def test_a_child_that_writes_its_secret_to_stderr_does_not_bring_it_into_the_log(
    registry: Any, call: Any, child: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    token = put(tmp_path / "token", "canary-child-91ab")
    up = registry(up=child("legacy.py", credentials={"secret": {"file": token}, "variable": "TOKEN"}))
    await up.start()
    await up.execute(call(name="stderr", args={"text": "TOKEN is canary-child-91ab!"}), None)
    await up.execute(call(name="die"), None)
    await until(lambda: "TOKEN is ***!" in caplog.text)
    assert "canary-child-91ab" not in caplog.text + str(up.status())


async def test_an_agent_without_a_credential_does_not_make_the_upstream_look_down(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any, principal: Any, tmp_path: Path
) -> None:
    server = await serve(modern(answered))
    up = registry(up=at_url(server, credentials=divided(tmp_path)))
    await up.start()
    assert (await up.execute(call(who=principal("mallory")), None)).status == "not_sent"
    [status] = up.status()
    assert status.connected and not status.last_error


async def test_a_change_while_the_file_is_being_read_is_not_lost(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A slow file system: the second change comes while the first is read, with the content from before."""
    token = put(tmp_path / "token", "first")
    server = await serve(modern(answered))
    up = registry(up=at_url(server, credentials={"secret": {"file": token}}))
    await up.start()
    real = FromFile.read

    async def slow(self: FromFile) -> Any:
        found = await real(self)
        await asyncio.sleep(0.3)
        return found

    monkeypatch.setattr(FromFile, "read", slow)
    put(token, "second")
    await asyncio.sleep(0.15)
    put(token, "third")
    await until(lambda: up.credentials()[0].results["changed"] == 3)
    await up.execute(call(), None)
    assert sent(server) == ["Bearer third"]


async def test_a_helper_that_hangs_delays_nobody_else(
    registry: Any, serve: Any, call: Any, modern: Any, at_url: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(credentials, "FIRST_READ_S", 0.3)
    server = await serve(modern(answered))
    hangs = {**helper(tmp_path, "time.sleep(60)"), "timeout_s": 30}
    token = put(tmp_path / "token", "first")
    up = registry(
        hangs=at_url(server, credentials={"secret": hangs}),
        up=at_url(server, credentials={"secret": {"file": token}}),
    )
    started = time.monotonic()
    await up.start()
    assert (await up.execute(call(), None)).status == "ok"
    put(token, "second")
    await until(lambda: up.credentials()[1].results["changed"] == 2)
    refused = await up.execute(call("hangs"), None)
    assert (refused.status, refused.code) == ("not_sent", "credential_unavailable")
    assert runs(tmp_path) == 1
    closing = time.monotonic()
    await up.close()
    assert time.monotonic() - closing < 2 and closing - started < 3, "and it is ended with the gateway"
