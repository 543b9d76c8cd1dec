"""Input rounds of a modern upstream, for a client that cannot take part in them itself.

A modern server does not ask; it answers ``input_required`` and expects the request again with the answers
(2026-07-28, basic/patterns/mrtr). A legacy client is asked in the middle of its call, so the gateway goes the
rounds for it: same request, new answers, until there is a result.
"""

from __future__ import annotations

from typing import Final

import msgspec
import orjson

from gateway.ports import Dialogue, Unanswered
from gateway.upstreams.jsonrpc import Message, Request, nonsense

MAX_ROUNDS: Final = 8
MAX_REQUESTS: Final = 16  # in one round


class Question(msgspec.Struct, frozen=True):
    method: str
    params: msgspec.Raw = msgspec.Raw(b"{}")


class InputRequired(msgspec.Struct, frozen=True):
    """The members of an ``input_required`` result that matter for the next round."""

    requests: dict[str, Question] = msgspec.field(name="inputRequests", default_factory=dict)
    state: str | None = msgspec.field(name="requestState", default=None)


_decoder: Final = msgspec.json.Decoder(InputRequired)


class Refused(Exception):  # turned into an outcome by the registry
    """A question of the upstream was not answered, so its call cannot go on; ``code`` says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def parse(result: bytes | msgspec.Raw) -> InputRequired:
    """What is asked for; raises ``InDoubt`` for what the protocol does not know."""
    try:
        asked = _decoder.decode(result)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise nonsense(f"not an input_required result: {error}") from None
    if not asked.requests and asked.state is None:
        raise nonsense("an input_required result that asks for nothing")
    if len(asked.requests) > MAX_REQUESTS:
        raise nonsense(f"more than {MAX_REQUESTS} questions at once")
    return asked


async def answered(request: Request, message: Message, dialogue: Dialogue) -> Request:
    """The request of the next round; raises ``Refused``."""
    asked = parse(message.result)
    answers: dict[str, object] = {}
    for key, question in asked.requests.items():  # one after the other: a person reads one at a time
        try:
            answers[key] = orjson.Fragment(await dialogue.ask(question.method, bytes(question.params)))
        except Unanswered as unanswered:
            if question.method != "elicitation/create":
                raise Refused(unanswered.code) from None
            # The one question that a refusal is an answer to.
            answers[key] = {"action": "decline"}
    return again(request, answers, asked.state)


def again(request: Request, answers: dict[str, object], state: str | None) -> Request:
    """``request`` with the members of a later round."""
    members: dict[str, object] = {}
    if answers:
        members["inputResponses"] = answers
    if state is not None:
        members["requestState"] = state
    params = request.params_json + b"," + orjson.dumps(members)[1:-1]
    return msgspec.structs.replace(request, params_json=params)
