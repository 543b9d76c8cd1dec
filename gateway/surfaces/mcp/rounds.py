"""Input rounds with a modern client: the upstream's questions go out with a result, the answers come with the
next call.

Each question is decided and recorded as a call the other way round before the client sees it, and again with
its answer before the upstream does. What belongs together is kept by the client, sealed.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

import msgspec
import orjson

from gateway import pipeline, strictjson
from gateway.dialogue import Given, reverse
from gateway.errors import Refused
from gateway.model import QUESTIONS, Answer, Ask, Refusal
from gateway.ports import Parts
from gateway.reasons import REASONS
from gateway.surfaces.mcp import protocol
from gateway.surfaces.mcp.envelope import Rejected
from gateway.surfaces.mcp.seal import MAX_BYTES, Seal

MAX_QUESTIONS: Final = 16
MAX_STATE: Final = 64 * 1024  # bytes of an upstream's own state


class Unfit(Exception):  # turned into a refusal by whoever asks
    """The upstream asks for something that cannot be passed on."""


class Rounds:
    """Takes ``input_required`` results apart and puts the next round together."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    async def asked(self, parts: Parts, ask: Ask, answer: Answer) -> Answer | dict[str, Any]:
        """An ``input_required`` result as the client may see it; an ``Answer`` when it may not."""
        try:
            result = strictjson.parse(answer.result_json)
            questions = _questions(result, ask.capabilities_json)
            # From the bytes of the upstream: what the result policy takes out of texts is no part of a state.
            state = _state(answer.outcome.result_json if answer.outcome is not None else b"{}")
        except (Unfit, Refused):
            return _refused(answer, "upstream_bad_answer")
        shown: dict[str, Any] = {}
        for key, (method, params) in questions.items():
            given = Given(b"{}")
            asked = await pipeline.call(
                msgspec.structs.replace(parts, upstreams=given), reverse(ask, method, params)
            )
            if asked.refusal is not None:
                return msgspec.structs.replace(answer, result_json=b"", refusal=asked.refusal)
            shown[key] = {"method": method, "params": orjson.Fragment(given.args_json)}
        kept: dict[str, Any] = {
            "asked": {key: [method, params] for key, (method, params) in questions.items()}
        }
        if state is not None:
            kept["state"] = state
        told: dict[str, Any] = {"resultType": "input_required"}
        if shown:
            told["inputRequests"] = shown
        told["requestState"] = self._seal.close(kept, binding(ask), parts.clock.now_ns())
        if len(told["requestState"]) > MAX_BYTES:
            return _refused(answer, "result_too_large")
        if isinstance(result.get("_meta"), dict):
            told["_meta"] = {
                name: value
                for name, value in result["_meta"].items()
                if not name.startswith(protocol.VENDOR_PREFIX)
            }
        return told

    async def answered(
        self, parts: Parts, ask: Ask, kept: dict[str, Any], responses: dict[str, Any]
    ) -> Ask | Answer:
        """``ask`` with the answers that may be sent on; an ``Answer`` that refuses where one may not.

        ``kept`` is what was sealed with the questions; answers to others are dropped.
        """
        inputs: dict[str, Any] = {}
        passed: dict[str, Any] = {}
        for key, (method, question) in kept["asked"].items():
            if key not in responses:
                continue  # the upstream asks again for what it misses; what it did not ask for is dropped
            answer = await pipeline.call(
                msgspec.structs.replace(parts, upstreams=Given(orjson.dumps(responses[key]))),
                reverse(ask, method, question),
            )
            if answer.refusal is not None:
                # Without its outcome, which is the client's answer: the call itself was not made.
                return msgspec.structs.replace(answer, outcome=None)
            passed[key] = orjson.loads(answer.result_json)
        if passed:
            inputs["inputResponses"] = passed
        if "state" in kept:
            inputs["requestState"] = kept["state"]
        return msgspec.structs.replace(ask, inputs_json=strictjson.canonical(inputs) if inputs else b"")


def responses_in(params: dict[str, Any]) -> dict[str, Any]:
    """The client's answers by the names of the questions; to be looked at before the state is taken.

    Each is the result of a request, so an object. Anything else is no answer, and is asked for again.
    """
    responses = params.get("inputResponses", {})
    if not isinstance(responses, dict):
        raise Rejected(
            "invalid_request", "'inputResponses' must be an object.",
            status=200, rpc=protocol.INVALID_PARAMS,
        )  # fmt: skip
    return {key: answer for key, answer in responses.items() if isinstance(answer, dict)}


def binding(ask: Ask) -> bytes:
    """What a state belongs to: the principal with its endpoint and the exact request."""
    principal = ask.principal
    arguments = sha256(strictjson.canonical(ask.args)).hexdigest()
    return orjson.dumps(
        [
            principal.tenant, principal.agent, principal.credential, principal.subject,
            ask.kind, ask.upstream, ask.name, arguments,
        ]
    )  # fmt: skip


def _state(result_json: bytes) -> str | None:
    state = orjson.loads(result_json).get("requestState")
    if state is not None and (not isinstance(state, str) or len(state) > MAX_STATE):
        raise Unfit
    return state


def _questions(result: Any, capabilities_json: bytes) -> dict[str, tuple[str, Any]]:
    requests = result.get("inputRequests", {}) if isinstance(result, dict) else None
    if not isinstance(requests, dict) or len(requests) > MAX_QUESTIONS:
        raise Unfit
    declared = orjson.loads(capabilities_json) if capabilities_json else {}
    questions: dict[str, tuple[str, Any]] = {}
    for key, request in requests.items():
        method = request.get("method") if isinstance(request, dict) else None
        kind = QUESTIONS.get(method) if isinstance(method, str) else None
        # A client is asked only what it said it can be asked, or a server could fish for what it reveals.
        if kind is None or kind not in declared:
            raise Unfit
        assert isinstance(method, str)
        questions[key] = (method, request.get("params") or {})
    return questions


def _refused(answer: Answer, code: str) -> Answer:
    reason = REASONS[code]
    refusal = Refusal(code=code, message=reason.message, remedy=reason.remedy)
    return msgspec.structs.replace(answer, result_json=b"", refusal=refusal)
