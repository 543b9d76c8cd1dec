"""What an upstream may do with the client on the way, by the pipeline and its ports alone."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import orjson
import pytest

from gateway import dialogue, pipeline
from gateway.config import LimitsConfig
from gateway.model import Ask, Outcome
from gateway.ports import ResultDecision, Unanswered
from tests.play import AGENT, Stage, tool, verdict, with_mode

ELICIT = "elicitation/create"
ANSWER = b'{"action":"accept","content":{"pin":"1234"}}'


class Client:
    """Implements ``ports.Caller``."""

    rounds = False

    def __init__(self, answer: Outcome | None = None) -> None:
        self.answer = answer or Outcome(status="ok", result_json=ANSWER)
        self.notes: list[bytes] = []
        self.asked: list[tuple[str, bytes]] = []
        self.cancel: Any = None

    def wants(self, message: bytes) -> bool:
        return b"unwanted" not in message

    async def notify(self, message: bytes) -> None:
        self.notes.append(message)

    async def ask(self, method: str, params_json: bytes) -> Outcome:
        self.asked.append((method, params_json))
        return self.answer

    def attach(self, cancel: Any) -> None:
        self.cancel = cancel


class Scene(Stage):
    """``play`` is what the upstream does; ``judge`` what the result policy says of some bytes."""

    def __init__(self, play: Any, judge: Any = None, **script: Any) -> None:
        super().__init__(**script)
        self.play = play
        self.judge = judge
        self.judged: list[bytes] = []
        self.hidden: set[str] = set()

    def parts(self) -> Any:
        parts = super().parts()
        scene = self

        class Policy(type(parts.policy)):  # type: ignore[misc]  # the stage's own
            def wants_result(self, call: Any) -> bool:
                return scene.judge is not None

            async def result(self, call: Any, facts: Any, outcome: Outcome) -> ResultDecision:
                scene.judged.append(outcome.result_json)
                shown = scene.judge(outcome.result_json)
                if shown is None:
                    return ResultDecision(decision=verdict("deny", "no_secrets"))
                return ResultDecision(decision=verdict("allow"), result_json=shown)

            def sees(self, principal: Any, tool: Any, facts: Any) -> bool:
                return tool.name not in scene.hidden

        return msgspec.structs.replace(parts, policy=Policy(scene))

    def resolve(self, kind: str, upstream: str, name: str) -> Any:
        self.step("resolve")
        return tool(kind=kind, name=name, target=f"{upstream}/{name}")

    async def execute(self, call: Any, dialogue: Any) -> Outcome:
        await self.play(dialogue)
        return await super().execute(call, dialogue)

    async def make(
        self, client: Client | None, capabilities: bytes = b'{"elicitation":{}}', who: Any = AGENT
    ) -> Any:
        ask = Ask(
            principal=who, surface="mcp", kind="tool", upstream="up", name="act", args={}, session="s",
            capabilities_json=capabilities,
        )  # fmt: skip
        return await pipeline.call(self.parts(), ask, client)


def note(method: str = "notifications/message", **params: Any) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "method": method, "params": params})


async def answered(scene_dialogue: Any, method: str = ELICIT, params: bytes = b"{}") -> str:
    try:
        return (await scene_dialogue.ask(method, params)).decode()
    except Unanswered as unanswered:
        return unanswered.code


async def asked(
    params: bytes = b"{}", method: str = ELICIT, capabilities: bytes = b'{"elicitation":{}}', **more: Any
):
    """What the upstream hears when it asks, with the scene and the client."""
    heard: list[str] = []

    async def play(talk: Any) -> None:
        heard.append(await answered(talk, method, params))

    client = more.pop("client", None) or Client()
    scene = Scene(play, **more)
    await scene.make(client, capabilities)
    return heard[0], scene, client


async def test_a_question_is_a_call_with_a_decision_and_a_record_of_its_own():
    heard, scene, client = await asked(b'{"message":"pin?"}')
    assert heard.encode() == ANSWER and client.asked == [(ELICIT, b'{"message":"pin?"}')]
    assert scene.told.count("decide") == 2 and scene.told.count("intent") == 2
    assert scene.told.count("settled") == 2
    assert scene.told.index("intent") < scene.told.index("execute"), "on record before the client is asked"
    assert scene.limits.total == 0


@pytest.mark.parametrize("capabilities", [b"", b"{}", b'{"sampling":{}}', b'{"roots":{},"extensions":{}}'])
async def test_a_client_is_asked_only_what_it_declared(capabilities):
    heard, scene, client = await asked(capabilities=capabilities)
    assert heard == "unknown_method" and client.asked == [] and scene.told.count("decide") == 1


@pytest.mark.parametrize("method", ["ping", "tools/call", "elicitation", "", "notifications/message"])
async def test_nothing_else_is_a_question(method):
    assert (await asked(method=method))[0] == "unknown_method"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        (b'{"a":1,"a":2}', "duplicate_key"), (b'{"a":1e999}', "number_out_of_range"),
        (b"{", "malformed_json"), (b"[]", "invalid_arguments"), (b"1", "invalid_arguments"),
        (b"[" * 100 + b"]" * 100, "too_deep"), (b'{"a":"' + b"x" * 300_000 + b'"}', "args_too_large"),
    ],
)  # fmt: skip
async def test_a_question_that_two_readers_could_read_differently_is_not_put(params, code):
    heard, _, client = await asked(params)
    assert heard == code and client.asked == []


async def test_a_question_of_a_call_in_flight_needs_no_place_of_its_own():
    heard, scene, _ = await asked(limits=LimitsConfig(in_flight_per_agent=1))
    assert heard.encode() == ANSWER and scene.limits.total == 0


async def test_a_call_in_flight_can_still_ask_while_the_gateway_waits_for_the_last_ones():
    heard: list[str] = []

    async def play(talk: Any) -> None:
        scene.limits.close()
        heard.append(await answered(talk))

    scene = Scene(play)
    await scene.make(Client())
    assert heard[0].encode() == ANSWER and scene.limits.idle.is_set()


async def test_a_refused_question_is_on_record_and_the_call_goes_on():
    heard, scene, client = await asked(verdicts=[verdict("allow"), verdict("deny", "no_pins")])
    assert heard == "no_pins" and client.asked == []
    assert ("block", "deny", "no_pins") in scene.recorded and scene.told.count("execute") == 1


async def test_a_question_that_needs_a_person_is_not_put():
    heard, _, client = await asked(verdicts=[verdict("allow"), verdict("escalate")])
    assert heard == "approvals_not_configured" and client.asked == []


async def test_a_question_that_can_not_be_recorded_is_not_put():
    scene_heard: list[str] = []

    async def play(talk: Any) -> None:
        scene.script["fail"] = "intent"
        scene_heard.append(await answered(talk))
        scene.script["fail"] = ""

    scene, client = Scene(play), Client()
    await scene.make(client)
    assert scene_heard == ["journal_unavailable"] and client.asked == []


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(status="rpc_error", error_json=b'{"code":-1,"message":"no"}'),
        Outcome(status="failed", code="client_declined"),
        Outcome(status="not_sent", code="client_declined"),
    ],
)
async def test_a_client_that_does_not_answer_has_declined(outcome):
    assert (await asked(client=Client(outcome)))[0] == "client_declined"


async def test_an_answer_is_judged_before_the_upstream_gets_it():
    heard, _, _ = await asked(judge=lambda shown: shown.replace(b"1234", b"[gone]"))
    assert json.loads(heard)["content"] == {"pin": "[gone]"}
    heard, _, client = await asked(judge=lambda shown: None if b"1234" in shown else shown)
    assert heard == "no_secrets" and len(client.asked) == 1


# ------------------------------------------------------------------------------------- notifications


async def told(*notes: bytes, judge: Any = None, who: Any = AGENT) -> tuple[list[Any], Scene]:
    async def play(talk: Any) -> None:
        for each in notes:
            await talk.notify(each)

    client, scene = Client(), Scene(play, judge)
    await scene.make(client, who=who)
    return [orjson.loads(each) for each in client.notes], scene


async def test_without_a_result_policy_a_notification_passes_as_it_came():
    raw = b'{"jsonrpc" : "2.0","method":"notifications/message","params":{"data":"\\u0041"}}'

    async def play(talk: Any) -> None:
        await talk.notify(raw)
        await talk.notify(b"unwanted")

    client = Client()
    await Scene(play).make(client)
    assert client.notes == [raw]


async def test_a_text_is_redacted_or_dropped_and_numbers_pass_unjudged():
    numbers = note("notifications/progress", progressToken=1, progress=2)
    shown, scene = await told(
        note(data="a secret"), note(data="poison"), numbers,
        note("notifications/progress", progressToken=1, progress=3, message="secret"),
        judge=lambda raw: None if b"poison" in raw else raw.replace(b"secret", b"[gone]"),
    )  # fmt: skip
    assert [each["params"] for each in shown] == [
        {"data": "a [gone]"}, {"progressToken": 1, "progress": 2},
        {"progressToken": 1, "progress": 3, "message": "[gone]"},
    ]  # fmt: skip
    assert len(scene.judged) == 4, "three texts and the result"


async def test_what_is_judged_on_the_way_is_bounded_and_the_rest_is_dropped(monkeypatch):
    monkeypatch.setattr(dialogue, "MAX_JUDGED", 3)
    numbers = note("notifications/progress", progressToken=1, progress=2)
    shown, scene = await told(*[note(data=str(n)) for n in range(10)], numbers, judge=lambda raw: raw)
    assert [each["params"].get("data") for each in shown] == ["0", "1", "2", None]
    assert len(scene.judged) == 4


@pytest.mark.parametrize(
    "odd",
    [
        b'{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"a","data":"b"}}',
        b"not json",
        b'{"jsonrpc":"2.0","method":"notifications/message"}',
        b'{"jsonrpc":"2.0","method":"notifications/progress"}',
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":[]}',
        b'{"jsonrpc":"2.0","method":"notifications/message","params":"text"}',
        b"[]",
    ],
)
async def test_a_notification_of_another_shape_is_dropped_where_texts_are_judged(odd):
    shown, scene = await told(odd, note(data="next"), judge=lambda raw: raw)
    assert [each["params"] for each in shown] == [{"data": "next"}]
    assert scene.told[-1] == "ended" and "settled" in scene.told


async def test_observe_mode_shows_everything_and_counts_each():
    shown, scene = await told(
        note(data="poison"), note(data="secret"), note(data="fine"),
        judge=lambda raw: None if b"poison" in raw else raw.replace(b"secret", b"[gone]"),
        who=with_mode("observe"),
    )  # fmt: skip
    assert [each["params"]["data"] for each in shown] == ["poison", "secret", "fine"]
    assert scene.counted.count(("result", "observe")) == 2


# -------------------------------------------------------------------------------------- giving it up


async def test_giving_up_is_told_once_also_before_anybody_listens():
    hooked: list[int] = []

    async def play(talk: Any) -> None:
        client.cancel()
        assert talk.cancelled
        talk.hook = lambda: hooked.append(1)
        client.cancel()
        await asyncio.sleep(0)

    client = Client()
    await Scene(play).make(client)
    assert hooked == [], "it was given up before, and whoever takes the call looks"


async def test_a_caller_that_only_waits_has_no_dialogue():
    seen: list[Any] = []

    async def play(talk: Any) -> None:
        seen.append(talk)

    await Scene(play).make(None)
    assert seen == [None]


# ------------------------------------------------------------------------------- what the session learns


@pytest.mark.parametrize(
    ("notes", "seen"),
    [
        ([note(data="do as I say")], True),
        ([note("notifications/progress", progressToken=1, progress=2, message="do as I say")], True),
        ([note("notifications/progress", progressToken=1, progress=2)], False),
        ([b"unwanted"], False),
        ([], False),
    ],
)
async def test_what_was_said_on_the_way_is_read_though_no_answer_comes(notes, seen):
    async def play(talk: Any) -> None:
        for each in notes:
            await talk.notify(each)

    scene = Scene(play, outcome=Outcome(status="in_doubt", code="upstream_lost"))
    await scene.make(Client())
    assert [each.seen for each in scene.learnt] == [seen]


async def test_a_note_that_is_dropped_is_not_read():
    async def play(talk: Any) -> None:
        await talk.notify(note(data="poison"))

    lost = Outcome(status="in_doubt", code="upstream_lost")
    scene = Scene(play, lambda raw: None, outcome=lost)
    await scene.make(Client())
    assert [each.seen for each in scene.learnt] == [False]


async def test_a_question_is_read_though_no_answer_comes():
    lost = Outcome(status="in_doubt", code="upstream_lost")
    _, scene, client = await asked(b'{"message":"do as I say"}', outcome=lost)
    assert client.asked and scene.learnt[-1].seen
