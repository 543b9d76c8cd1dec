"""Calls decided by a real OPA: what it says counts, and whatever goes wrong is a refusal with a code."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.model import Call, Facts, Outcome
from gateway.policy import Bundle, load
from gateway.policy.opa import OpaPolicy
from gateway.policy.opa_target import OpaFault, Target
from tests.policy.helpers import call, principal, rule, tool, write
from tests.policy.opa_server import free_port, opa
from tests.requires import requires

PAY = call(
    {"amount_micro_usd": 60_000_000},
    on=tool("office/pay_invoice", risk="irreversible", effects=("money",)),
    by=principal(labels=("accounting",)),
)
READ = call({"sql": "select 1"}, on=tool("db/query", risk="read"))


@asynccontextmanager
async def opened(bundle: Bundle, target: Target, *, must: bool = True) -> AsyncIterator[OpaPolicy]:
    policy = OpaPolicy(bundle, target)
    await policy.open(must=must)
    try:
        yield policy
    finally:
        await policy.close(remove=False)


async def code(policy: OpaPolicy, asked: Call = PAY) -> str:
    return (await policy.call(asked, Facts())).code


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def strict() -> Bundle:
    return load(None, "strict").bundle


def bundle(folder: Path, **modules: str) -> Bundle:
    return load(write(folder, {name: rule(name, body) for name, body in modules.items()})).bundle


# --------------------------------------------------------------------------------------- with a real OPA


@requires("opa")
async def test_opa_decides_and_the_decision_names_it_and_the_revision(tmp_path: Path, strict: Bundle) -> None:
    with opa(tmp_path) as server:
        async with opened(strict, server.target()) as policy:
            decision = await policy.call(PAY, Facts())
    assert (decision.verdict, decision.code) == ("escalate", "payment_over_limit")
    assert decision.engine.startswith("opa 1.") and decision.revision == strict.revision
    assert decision.findings[0].chain == "payments-high"


@requires("opa")
async def test_what_is_remembered_is_not_asked_again(tmp_path: Path) -> None:
    plain = bundle(tmp_path / "p", a='allow contains {"code": "fine"} if input.tool.risk == "read"')
    with opa(tmp_path) as server:
        async with opened(plain, server.target()) as policy:
            assert (await policy.call(READ, Facts())).memoised == 0
            server.kill()
            decision = await policy.call(READ, Facts())
    assert (decision.verdict, decision.memoised) == ("allow", 1)


@requires("opa")
async def test_an_opa_that_was_started_again_refuses_until_it_has_been_given_the_policy(
    tmp_path: Path, strict: Bundle
) -> None:
    with opa(tmp_path) as server:
        async with opened(strict, server.target()) as policy:
            assert await code(policy) == "payment_over_limit"
            server.kill()
            assert await code(policy) == "policy_unavailable"
            await until(lambda: _true(policy.trouble != ""))
            server.start()
            assert await code(policy) in ("payment_over_limit", *_NOT_NOW)
            await until(lambda: _is(policy, "payment_over_limit"))
            await until(lambda: _true(policy.trouble == ""))


_NOT_NOW = ("policy_mismatch", "policy_unavailable", "policy_undefined")


async def _true(value: bool) -> bool:
    return value


async def _is(policy: OpaPolicy, expected: str) -> bool:
    found = await code(policy)
    assert found in ("payment_over_limit", *_NOT_NOW)
    return found == expected


@requires("opa")
async def test_an_opa_that_lost_one_module_is_no_opa_without_that_rule(
    tmp_path: Path, strict: Bundle
) -> None:
    with opa(tmp_path) as server:
        async with opened(strict, server.target()) as policy:
            payments = policy._link.pushed
            number = next(name for name, file in payments.files.items() if file.endswith("payments.rego"))
            client = policy._link._client
            assert client is not None
            await client._send("DELETE", _url(client, f"policies/{number}"))
            decision = await policy.call(PAY, Facts())
            assert decision.verdict == "deny"
            assert [f.rule for f in decision.findings if f.code == "policy_undefined"] == [
                "payments.payments"
            ]
            await until(lambda: _is(policy, "payment_over_limit"))


def _url(client: Any, path: str) -> Any:
    from yarl import URL

    return URL(f"{client.root_url}/{path}")


@requires("opa")
async def test_two_revisions_are_served_side_by_side_and_the_old_one_is_taken_away(
    tmp_path: Path, strict: Bundle
) -> None:
    other = load(
        write(tmp_path / "p", {"data.yaml": "payments: {unattended_micro_usd: 90000000}\n"}), "strict"
    ).bundle
    with opa(tmp_path) as server:
        async with opened(strict, server.target()) as old, opened(other, server.target()) as new:
            assert (await code(old), await code(new)) == ("payment_over_limit", "payment_within_limit")
            await old.close(remove=True)
            assert await code(old) == "policy_unavailable"
            assert await code(new) == "payment_within_limit"
            client = new._link._client
            assert client is not None
            names = await client.get_policies_list()
    assert names and {name.split("/")[0] for name in names} == {f"w{other.revision[:16]}"}


@requires("opa")
async def test_the_fault_of_one_module_is_named_and_the_others_keep_their_say(tmp_path: Path) -> None:
    three = bundle(
        tmp_path / "p",
        a='deny contains {"code": "stop", "message": "no"} if input.call.args.a == 1',
        b='deny contains {"code": "stop"} if count(input.call.args.a) > 1',
        c='allow contains {"code": "fine"} if input.call.args.a',
    )
    with opa(tmp_path) as server:
        async with opened(three, server.target()) as policy:
            decision = await policy.call(call({"a": 1}), Facts())
            assert [(f.code, f.rule) for f in decision.findings] == [("stop", "a"), ("policy_error", "b")]
            # A built-in given the wrong type is an error and not a rule that never fires.
            assert await code(policy, call({"a": True})) == "policy_error"


@requires("opa")
async def test_a_module_that_only_watches_touches_nothing_by_its_faults(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "p",
        {
            "a": rule("a", 'allow contains {"code": "fine"} if input.call.args.a'),
            "w": rule("w", 'deny contains {"code": "stop"} if count(input.call.args.a) > 1', mode="observe"),
        },
    )
    with opa(tmp_path) as server:
        async with opened(load(folder).bundle, server.target()) as policy:
            decision = await policy.call(call({"a": 1}), Facts())
    assert (decision.verdict, decision.code) == ("allow", "fine")
    assert [(seen.rule, seen.verdict) for seen in decision.observed] == [("w", "error")]


@requires("opa")
async def test_results_are_redacted_by_what_opa_says(tmp_path: Path) -> None:
    with opa(tmp_path) as server:
        async with opened(load(None, "starter").bundle, server.target()) as policy:
            body = b'{"content":[{"type":"text","text":"AKIAABCDEFGHIJKLMNOP"}]}'
            shown = await policy.result(READ, Facts(), Outcome(status="ok", result_json=body))
    assert b"AKIA" not in shown.result_json and b"redacted" in shown.result_json


@requires("opa")
async def test_a_token_is_sent_and_an_opa_that_refuses_it_decides_nothing(
    tmp_path: Path, strict: Bundle
) -> None:
    authz = tmp_path / "authz.rego"
    authz.write_text(
        'package system.authz\ndefault allow := false\nallow if input.identity == "open-sesame"\n'
    )
    token = tmp_path / "token"
    token.write_text("open-sesame\n")
    arguments = ("--authentication=token", "--authorization=basic", str(authz))
    with opa(tmp_path, *arguments) as server:
        async with opened(strict, server.target(token_file=token)) as policy:
            assert await code(policy) == "payment_over_limit"
            token.write_text("shut-sesame")
            await until(lambda: _is(policy, "policy_unavailable"))
            token.write_text("open-sesame")
            await until(lambda: _is(policy, "payment_over_limit"))
        with pytest.raises(OpaFault, match="401"):
            await OpaPolicy(strict, server.target()).open(must=True)


@requires("opa", "openssl")
async def test_an_opa_behind_tls_is_believed_only_with_the_given_authority(
    tmp_path: Path, strict: Bundle
) -> None:
    certificate(tmp_path)
    arguments = (f"--tls-cert-file={tmp_path}/cert.pem", f"--tls-private-key-file={tmp_path}/key.pem")
    with opa(tmp_path, *arguments, tcp=True, scheme="https") as server:
        async with opened(strict, server.target(ca_file=tmp_path / "cert.pem")) as policy:
            assert await code(policy) == "payment_over_limit"
        with pytest.raises(OpaFault, match=r"(?i)certificate"):
            await OpaPolicy(strict, server.target()).open(must=True)


def certificate(folder: Path) -> None:
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    key = [*curve, "-nodes", "-keyout", folder / "key.pem"]
    name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command = ["openssl", "req", "-x509", *key, *name, "-out", folder / "cert.pem"]
    subprocess.run(command, check=True, capture_output=True)


# --------------------------------------------------------------------- with something that plays a bad OPA


class Bad:
    """Answers every question of the entry as told; takes and confirms whatever it is given."""

    def __init__(self, bundle: Bundle, folder: Path) -> None:
        self.revision = bundle.revision
        self.answer: tuple[int, bytes] | None = None  # ``None`` hangs
        self.asked: list[str] = []
        self.folder = folder
        self.target = Target(socket=folder / "bad.sock", deadline_s=0.3)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        from aiohttp import web

        async def handle(request: web.Request) -> web.Response:
            if request.method != "POST":
                return web.Response(status=200, text="{}")
            if request.path.endswith("/about"):
                return web.json_response({"result": {"revision": self.revision, "version": "9"}})
            self.asked.append(request.query_string)
            if self.answer is None:
                await asyncio.sleep(5)
            status, body = self.answer or (200, b"{}")
            return web.Response(status=status, body=body, headers={"Location": "/elsewhere"})

        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{rest:.*}", handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.UnixSite(runner, str(self.target.socket)).start()
        try:
            yield
        finally:
            await runner.cleanup()


def answer(bundle: Bundle, said: Any, revision: str | None = None) -> tuple[int, bytes]:
    return 200, msgspec.json.encode({"result": {"revision": revision or bundle.revision, "said": said}})


@pytest.fixture
def one(tmp_path: Path) -> Bundle:
    return bundle(tmp_path / "p", a='allow contains {"code": "fine"} if input.call.args.a')


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"m0": {"allow": [{"code": "fine"}]}}, "fine"),
        ({}, "policy_undefined"),
        ({"m0": {}}, "no_rule_allows"),
        ({"m0": None}, "policy_bad_shape"),
        ({"m0": "<undefined>"}, "policy_bad_shape"),
        ({"m0": True}, "policy_bad_shape"),
        ({"m0": {"allow": True}}, "policy_bad_shape"),
        ({"m0": {"allow": [{"code": "fine", "more": 1}]}}, "policy_bad_shape"),
        ({"m0": {"allow": [{"code": 1}]}}, "policy_bad_shape"),
        ({"m0": {"permit": []}}, "policy_bad_shape"),
        ({"m0": {"allow": [{"code": "elsewhere"}]}}, "undeclared_code"),
        ([], "policy_bad_shape"),
        (None, "policy_bad_shape"),
    ],
)
async def test_an_odd_answer_opens_nothing(one: Bundle, tmp_path: Path, said: Any, expected: str) -> None:
    bad = Bad(one, tmp_path)
    bad.answer = answer(one, said)
    async with bad.serving(), opened(one, bad.target) as policy:
        decision = await policy.call(call({"a": 1}), Facts())
    assert (decision.code, decision.verdict) == (expected, "allow" if expected == "fine" else "deny")
    assert bad.asked == ["strict-builtin-errors=true"], "asked once, and strictly"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b"{}", "policy_mismatch"),
        (
            200,
            b'{"result":{"revision":"another","said":{"m0":{"allow":[{"code":"fine"}]}}}}',
            "policy_mismatch",
        ),
        (200, b"", "policy_bad_shape"),
        (200, b"<html>", "policy_bad_shape"),
        (200, b"[" * 100_000, "policy_bad_shape"),
        (200, b'{"result":true}', "policy_bad_shape"),
        (200, b'{"result":{"allow":true}}', "policy_bad_shape"),
        (
            500,
            b'{"code":"internal_error","errors":[{"code":"eval_conflict_error","message":"m"}]}',
            "policy_error",
        ),
        (500, b'{"code":"internal_error","message":"x"}', "policy_unavailable"),
        (500, b"oops", "policy_unavailable"),
        (503, b"", "policy_unavailable"),
        (400, b'{"code":"invalid_parameter"}', "policy_unavailable"),
        (401, b"", "policy_unavailable"),
        (404, b"", "policy_unavailable"),
        (307, b"", "policy_unavailable"),
    ],
)
async def test_an_answer_that_is_none_opens_nothing(
    one: Bundle, tmp_path: Path, status: int, body: bytes, expected: str
) -> None:
    bad = Bad(one, tmp_path)
    bad.answer = (status, body)
    async with bad.serving(), opened(one, bad.target) as policy:
        decision = await policy.call(call({"a": 1}), Facts())
    assert (decision.verdict, decision.code) == ("deny", expected)
    assert len(bad.asked) == 1, "a question is never put twice"


async def test_an_opa_that_is_too_slow_is_not_waited_for(one: Bundle, tmp_path: Path) -> None:
    bad = Bad(one, tmp_path)
    async with bad.serving(), opened(one, bad.target) as policy:
        started = asyncio.get_running_loop().time()
        decision = await policy.call(call({"a": 1}), Facts())
        took = asyncio.get_running_loop().time() - started
    assert (decision.verdict, decision.code) == ("deny", "policy_timeout")
    assert took < 2.0


async def test_an_opa_that_is_not_there_is_waited_for_at_the_start_and_not_at_a_reload(
    one: Bundle, tmp_path: Path
) -> None:
    nowhere = Target(url=f"http://127.0.0.1:{free_port()}", deadline_s=0.5)
    async with opened(one, nowhere, must=False) as policy:
        assert await code(policy, call({"a": 1})) == "policy_unavailable"
        assert "127.0.0.1" in policy.trouble
    with pytest.raises(OpaFault):
        await OpaPolicy(one, nowhere).open(must=True)


async def test_the_same_read_stays_allowed_for_a_while_when_opa_cannot_be_reached(
    one: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Bad(one, tmp_path)
    bad.answer = answer(one, {"m0": {"allow": [{"code": "fine"}]}})
    write_call = call({"a": 1}, on=tool("git/git_commit", risk="reversible"))
    sends = call({"a": 1}, on=tool("web/get", risk="read", effects=("egress",)))
    async with bad.serving(), opened(one, bad.target) as policy:
        for asked in (call({"a": 1}), write_call, sends):
            assert await code(policy, asked) == "fine"
        bad.answer = (503, b"")
        again = await policy.call(call({"a": 1}), Facts(fast={"session": {"calls": 9}}))
        assert (again.verdict, again.code) == ("allow", "fine")
        assert [note.code for note in again.notes] == ["policy_unavailable"], "and it says so"
        for asked in (write_call, sends, call({"a": 2}), call({"a": 1}, by=principal(labels=("other",)))):
            assert await code(policy, asked) == "policy_unavailable"
        facts = Facts(slow={"trust": {"tier": 0}})
        assert (await policy.call(call({"a": 1}), facts)).verdict == "deny", "the tier is another"
        tainted = Facts(fast={"session": {"labels": ["untrusted"]}})
        assert (await policy.call(call({"a": 1}), tainted)).verdict == "deny", "the labels are others"
        bad.answer = (200, b"{}")
        assert await code(policy, call({"a": 1})) == "policy_mismatch", "reachable, and not ours"
        bad.answer = answer(one, {"m0": {"allow": [{"code": "fine"}]}})
        assert await code(policy, call({"a": 1})) == "fine"
        bad.answer = (503, b"")
        import gateway.policy.opa as module

        monkeypatch.setattr(module, "_KEPT_S", -1.0)
        assert await code(policy, call({"a": 1})) == "policy_unavailable", "half a minute has passed"


async def test_a_refusal_ends_what_is_remembered(one: Bundle, tmp_path: Path) -> None:
    bad = Bad(one, tmp_path)
    bad.answer = answer(one, {"m0": {"allow": [{"code": "fine"}]}})
    async with bad.serving(), opened(one, bad.target) as policy:
        assert await code(policy, call({"a": 1})) == "fine"
        bad.answer = answer(one, {"m0": {}})
        assert await code(policy, call({"a": 1})) == "no_rule_allows"
        bad.answer = (503, b"")
        assert await code(policy, call({"a": 1})) == "policy_unavailable"
