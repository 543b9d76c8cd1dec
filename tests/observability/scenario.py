"""A morning of two gateways, in seconds: everything the boards and alerts are about happens.

Allowed, denied, held, approved, rejected and expired calls; a breaker that trips and a kill; an upstream that
goes down and a call left in doubt; policy that is reloaded, refused, tried and only observed; definitions
that change, secrets that rotate, tokens, budgets, sessions, verifications, and tools that run elsewhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web

from tests.e2e.bundling import bundle_server
from tests.e2e.gateway import ALLOW_ALL, TOOLS, Counting, Wardgate, counting, rule, talking
from tests.e2e.test_approvals import Reviewer
from tests.e2e.test_verification import VERIFY
from tests.identity.issuing import AUDIENCE, Idp, issuing
from tests.policy.bundles import pair, signed
from tests.telemetry.scene import Collector, collector

NO_TEXT: Final = rule(
    "no_text",
    'deny contains {"code": "no_text", "message": "not today"} if input.call.args.text == "deny"',
    codes=["no_text"],
)
HELD: Final = rule(
    "held",
    'escalate contains {"code": "needs_person", "message": "a person", "approval": {"chain": "default"}}'
    ' if input.call.args.text in {"ask", "refuse"}\n'
    'escalate contains {"code": "needs_person", "message": "a person", "approval": {"chain": "quick"}}'
    ' if input.call.args.text == "expire"',
    codes=["needs_person"],
)
TRIED: Final = rule(
    "tried",
    'deny contains {"code": "tried", "message": "tried"} if input.call.args.text == "tried"',
    codes=["tried"],
    mode="observe",
)
WITHHELD: Final = rule(
    "withheld",
    'deny contains {"code": "withheld", "message": "withheld"} if contains(input.result.text, "classified")',
    codes=["withheld"],
    phase="result",
    scope={"kinds": ["tool"]},
)
BROKEN: Final = rule(
    "broken",
    'deny contains {"code": "no", "message": "x"} if to_number(input.call.args.text) > input.call.args.n',
    codes=["no"],
    scope={"tools": ["counting/send"]},
)
_PATIENT: Final = {"no_progress_short": 1000, "denied_in_row": 1000, "denied_total": 1000}
"""Ordinary work repeats itself and is told no; only the loop of the story is to trip."""
STAGES: Final = [{"any": [{"who": {"roles": ["approver", "operator"]}}]}]


class Played:
    """Both gateways, what a collector received of each, and when it all happened."""

    main: Wardgate
    other: Wardgate
    over_http: Collector
    over_grpc: Collector
    began: float

    @property
    def targets(self) -> list[str]:
        return [each.admin_url.removeprefix("http://") for each in (self.main, self.other)]


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[tuple[Played, Story]]:
    """Everything started, and nothing played yet."""
    with ExitStack() as stack:
        played = Played()
        played.over_http = stack.enter_context(collector())
        played.over_grpc = stack.enter_context(collector(over="grpc"))
        server = stack.enter_context(counting(folder))
        second = stack.enter_context(counting(folder, "second"))
        async with issuing() as idp, bundle_server() as bundles, hearing() as heard:
            bundles.raw = signed({"all.rego": ALLOW_ALL.encode()})
            secret = folder / "secret"
            secret.touch(0o600)
            secret.write_text("first-secret\n")
            played.main = _main(folder, server, second, idp, heard, secret, played.over_http.url)
            played.other = _other(folder, server, bundles.url, played.over_grpc.url)
            stack.callback(played.main.close)
            stack.callback(played.other.close)
            ann = Reviewer(played.main, "ann")
            olga = Reviewer(played.other, "olga", "operator")
            for each in (played.main, played.other):  # one after the other: the first compiles for both
                await asyncio.to_thread(each.start, 90)
            played.began = time.time()
            yield played, Story(played, server, second, idp, secret, ann, olga)


def _main(
    folder: Path, server: Counting, second: Counting, idp: Idp, heard: str, secret: Path, traces: str
) -> Wardgate:
    note = {**TOOLS["note"], "verify": {**VERIFY, "attempts": 1, "within_s": 2}}
    running = Wardgate(
        folder / "main",
        {
            "counting": {
                "url": server.url,
                "deadline_s": 1.0,
                "tools": {**TOOLS, "note": note},
                "credentials": {"secret": {"file": str(secret)}},
            },
            "second": {"url": second.url},
            "trial": {"url": server.url, "mode": "observe"},
        },
        breakers={"enabled": True, "enforce_percent": {}, "no_progress": 1000, **_PATIENT},
        telemetry={"otlp_endpoint": traces, "sample": 1.0},
        approvals={
            "chains": {
                "default": {"stages": STAGES, "decide_s": 300},
                "quick": {"stages": STAGES, "decide_s": 1},
            },
            "hold_s": 0,
            "webhooks": {"chat": {"url": heard, "secret": "a secret of at least thirty-two bytes"}},
        },
        identity={
            "issuers": {
                "corp": {
                    "issuer": idp.url,
                    "audience": [AUDIENCE],
                    "agent_claim": "azp",
                    "agents": {"client-a": "carol"},
                }
            }
        },
        agents={
            "alice": {"owner": "team-a", "mints": {"agents": ["alice"]}},
            "bob": {"owner": "team-b"},
            "carol": {"owner": "team-c"},
            "dave": {"owner": "team-d", "budgets": {"calls": {"limit": 3}}},
            "erin": {"owner": "team-e"},
            "frank": {"owner": "team-f"},
        },
    )
    running.config["upstreams"]["desk"] = {"elsewhere": True, "tools": {"Edit": {"risk": "reversible"}}}
    running.write_config()
    for name, text in (("no_text", NO_TEXT), ("held", HELD), ("tried", TRIED), ("withheld", WITHHELD)):
        running.policy(f"{name}.rego", text)
    return running


def _other(folder: Path, server: Counting, bundles: str, traces: str) -> Wardgate:
    key = folder / "release.pub"
    key.write_bytes(pair("ES256")[1].material)
    verify = {"keys": {"release": {"algorithm": "ES256", "file": str(key)}}}
    running = Wardgate(
        folder / "other",
        {"counting": {"url": server.url}},
        trust={"enabled": True},
        telemetry={"otlp_endpoint": traces, "otlp_protocol": "grpc", "sample": 1.0},
        policy={"source": {"url": bundles, "every_s": 0.5, "timeout_s": 2, "verify": verify}},
    )
    del running.config["policy"]["path"]
    running.write_config()
    return running


@asynccontextmanager
async def hearing() -> AsyncIterator[str]:
    """A webhook that takes what it is told."""

    async def hear(request: web.Request) -> web.Response:
        await request.read()
        return web.Response()

    app = web.Application()
    app.router.add_post("/told", hear)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    try:
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/told"  # type: ignore[attr-defined]
    finally:
        await runner.cleanup()


class Story:
    """What happens, in its order. Each part says what it makes true, and fails where it does not."""

    def __init__(
        self,
        played: Played,
        server: Counting,
        second: Counting,
        idp: Idp,
        secret: Path,
        ann: Reviewer,
        olga: Reviewer,
    ) -> None:
        self.main, self.other = played.main, played.other
        self.server, self.second, self.idp, self.secret = server, second, idp, secret
        self.ann, self.olga = ann, olga
        self._number = 0
        self.stirred = False  # whether a later part of the story stands in the way of ordinary work

    async def ordinary(self, seconds: float, pause: float = 0.02) -> None:
        """Calls as on any day, most of them allowed."""
        until = time.monotonic() + seconds
        async with (
            talking(self.main, self.main.key()) as alice,
            talking(self.main, self.main.key("frank")) as frank,
            talking(self.other, self.other.key()) as far,
        ):
            while time.monotonic() < until:
                self._number += 1
                number = self._number
                said = await alice.call(
                    "look" if number % 3 else "send", text=f"work {number}", echo=f"{number}"
                )
                assert self.stirred or not said.refused, said.body
                if number % 7 == 0:
                    assert (await frank.call("pay", text="deny", n=number)).refused
                if number % 5 == 0:
                    await alice.call("look", upstream="second", text=f"work {number}")
                if number % 11 == 0:
                    await frank.call("pay", upstream="trial", text="deny", n=number)
                    await alice.call("look", text="tried", n=number)
                if number % 9 == 0:
                    await far.call("look", text=f"far {number}")
                await asyncio.sleep(pause)

    async def people(self) -> None:
        """One call is approved and carried out, one is rejected, one expires, one is left waiting."""
        async with talking(self.main, self.main.key()) as alice:
            held = {}
            for text in ("ask", "refuse", "expire"):
                said = await alice.call("pay", text=text, n=1)
                assert said.reason == "approval_needed", said.body
                held[text] = said.facts["approval_id"]
            waiting = {each["id"]: each for each in await self.ann.waiting()}
            ask, refuse = waiting[held["ask"]], waiting[held["refuse"]]
            assert (await self.ann.do("approve", ask))[0] == 200
            assert not (await alice.call("pay", text="ask", n=1)).refused
            assert (await self.ann.do("reject", refuse, reason_code="too_risky"))[0] == 200
            await asyncio.sleep(2.5)
            assert (await alice.call("pay", text="expire", n=1)).reason == "approval_expired"
            assert (await alice.call("pay", text="ask", n=2)).reason == "approval_needed"

    async def trouble(self) -> None:
        """A loop trips a breaker, a person kills, a budget ends, keys are wrong, a result is withheld."""
        async with talking(self.main, self.main.key("bob")) as bob:
            for _ in range(6):
                said = await bob.call("look", text="again")
            assert said.reason == "breaker_open", said.body
        async with talking(self.main, self.main.key("dave")) as dave:
            for number in range(5):
                said = await dave.call("look", text=f"{number}")
            assert said.reason == "budget_exceeded", said.body
        done = await self.main.cli("kill", "agent", "erin", "--reason", "exercise")
        assert done.returncode == 0, done.stderr
        async with talking(self.main, self.main.key("erin")) as erin:
            for number in range(40):
                said = await erin.call("look", text=f"{number}")
                if said.reason == "killed":
                    break
                await asyncio.sleep(0.1)
            assert said.reason == "killed"
        async with talking(self.main, "wgk_00000000_wrong") as nobody:
            assert (await nobody.call("look")).status == 401
        async with talking(self.main, self.main.key()) as alice:
            assert "error" in (await alice.call("nothing")).message
            said = await alice.call("look", echo="classified", n=1)
            assert said.reason == "withheld", said.body

    async def trust(self) -> None:
        """Somebody reports what a call did, and its agent falls."""
        async with talking(self.other, self.other.key("bob")) as bob:
            assert (await bob.call("look", text="harm")).text == "done"
        record = await self.other.recorded(lambda record: record.get("agent") == "bob")
        body = {"call": record["call_id"], "reason": "exercise"}
        status, said = await self.other.admin("/v1/trust/reports", self.olga.key, "POST", body)
        assert status == 201, said

    async def outside(self) -> None:
        """An answer never comes, an upstream goes, a definition and a secret change, effects are read."""
        async with talking(self.main, self.main.key()) as alice:
            assert (await alice.call("note", keep="a", text="one", check="answer")).text == "done"
            assert (await alice.call("note", keep="b", text="two", lose=True, check="answer")).text == "done"
            assert (await alice.call("pay", text="lost", then="die")).reason is not None
            self.stirred = True
            self.secret.write_text("second-secret\n")
            self.server.offers(
                *(
                    {"name": name, "inputSchema": {"type": "object"}, "description": "other now"}
                    if name == "send"
                    else {"name": name, "inputSchema": _SCHEMA}
                    for name in TOOLS
                )
            )
            await alice.call("look", text="look again", then="changed")
            self.second.stop()
            for number in range(3):
                await alice.call("look", upstream="second", text=f"down {number}")
        async with talking(self.main, self.idp.token(azp="client-a")) as carol:
            assert (await carol.call("look", text="with a token")).text == "done"
        await self._elsewhere()

    async def _elsewhere(self) -> None:
        headers = {"Authorization": f"Bearer {self.main.key()}"}
        async with aiohttp.ClientSession(self.main.agents_url, headers=headers) as http:
            for report in ("ok", None):
                asked = {"tool": "desk/Edit", "arguments": {"file": str(report)}}
                key = {"Idempotency-Key": f'"{report}"'}
                async with http.post("/v1/decide", json=asked, headers=key) as answer:
                    said = await answer.json()
                    assert answer.status == 200, said
                if report is not None:
                    told = {"decision_id": said["decision_id"], "outcome": report, "result": {}}
                    async with http.post("/v1/settle", json=told) as answer:
                        assert answer.status == 200, await answer.text()
            session: dict[str, Any] = {"mandate": {"objective": "look around", "tools": ["counting/*"]}}
            async with http.post("/v1/sessions", json=session) as answer:
                assert answer.status in (200, 201), await answer.text()

    async def policy(self, folder: Path) -> None:
        """A candidate is tried, a good policy comes, a bad one is refused, and one fails while it decides."""
        tried = folder / "candidate"
        tried.mkdir()
        (tried / "all.rego").write_text(ALLOW_ALL)
        (tried / "no_text.rego").write_text(NO_TEXT.replace('"deny"', '"work"'))
        done = await self.main.cli("policy", "rollout", "start", str(tried))
        assert done.returncode == 0, done.stderr
        await self.ordinary(3)
        self.main.policy("broken.rego", BROKEN)
        await asyncio.sleep(1.5)
        async with talking(self.main, self.main.key("carol")) as carol:
            for number in range(3):
                await carol.call("send", text="no number", n=number)
        self.main.policy("worse.rego", "package wardgate.rules.worse\nimport rego.v1\ndeny if {")
        await asyncio.sleep(1.5)
        (self.main.policies / "worse.rego").unlink()

    async def settled(self) -> None:
        """What follows a moment later: records written behind, spans sent, rules evaluated."""
        until = time.monotonic() + 70
        while time.monotonic() < until:  # how people review is measured once a minute
            _, text = await self.main.admin("/metrics", "")
            if b"\nwardgate_autonomy_ratio " in text:
                break
            await self.ordinary(0.5)
        await asyncio.sleep(3.5)

    async def play(self, folder: Path, seconds: float = 6) -> None:
        """All of it; ``seconds`` of ordinary work before and between."""
        await self.ordinary(seconds / 2)
        await asyncio.gather(self.people(), self.ordinary(seconds / 4))
        await self.trouble()
        await self.trust()
        await asyncio.gather(self.outside(), self.ordinary(seconds / 4))
        await self.policy(folder)


_SCHEMA: Final = {"type": "object", "properties": {"text": {"type": "string"}, "then": {"type": "string"}}}
