"""``wardgate/approval``: the gateway's own tool to follow a held call with, and to answer its reviewer.

Beside ``wardgate/session`` and like it: decided by policy, recorded, charged to no budget. It changes nothing
outside: what the agent says reaches the people who decide, who read it as the words of an agent. What it
answers was written by reviewers and by the gateway, so it is trusted; the agent's own words are not repeated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson

from gateway.errors import Refused
from gateway.model import HELD_TOOL, OWN, Manifest, Principal, Tool

MAX_ANSWER: Final = 2_000
_MAX_ID: Final = 64

Look = Callable[[Principal, str], Awaitable[Mapping[str, Any]]]
Reply = Callable[[Principal, str, str], Awaitable[Mapping[str, Any]]]

_DEFINITION: Final = {
    "name": HELD_TOOL,
    "title": "A call of yours that people decide about",
    "description": (
        "Shows how it stands with one of your own calls that waits for approval, and what its reviewer asks. "
        "With 'answer', it answers that question; the reviewer reads the answer and decides. To have the "
        "call carried out when it is approved, make the call itself again with the same arguments."
    ),
    "inputSchema": {
        "type": "object",
        "properties": {
            "approval": {
                "type": "string",
                "maxLength": _MAX_ID,
                "description": "The approval_id that the call was answered with.",
            },
            "answer": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_ANSWER,
                "description": "Your answer to the reviewer's question.",
            },
        },
        "required": ["approval"],
        "additionalProperties": False,
    },
    "annotations": {"readOnlyHint": False, "destructiveHint": False, "openWorldHint": False},
}
TOOL: Final = Tool(
    kind="tool",
    upstream=OWN,
    name=HELD_TOOL,
    target=f"{OWN}/{HELD_TOOL}",
    # Were it a write, a rule that holds writes would hold the answer that a held call waits for.
    manifest=Manifest(
        risk="read", domain=OWN, polling=True, integrity="trusted", source="operator", deadline_s=10.0
    ),
    schema_hash="",
    definition_json=orjson.dumps(_DEFINITION),
)

REMEDY: Final = f"Give 'approval', and 'answer' with 1 to {MAX_ANSWER} characters or not at all."
_NEXT: Final = {
    "pending": "Call again with the same arguments later to learn the decision.",
    "approved": "Call again with the same arguments to have it carried out.",
    "recovering": "Call again with the same arguments to have it carried out.",
    "executing": "It is being carried out; wait for it.",
    "executed": "It has been carried out.",
    "in_doubt": "Its outcome is not known; check whether it happened before doing it again.",
}
_OVER: Final = "Nothing was done."


def readable(args: Mapping[str, Any]) -> bool:
    """Whether the arguments are what the tool takes."""
    approval, answer = args.get("approval"), args.get("answer", "-")
    return (
        args.keys() <= {"approval", "answer"}
        and isinstance(approval, str)
        and 0 < len(approval) <= _MAX_ID
        and isinstance(answer, str)
        and 0 < len(answer.strip()) <= len(answer) <= MAX_ANSWER
    )


async def found(look: Look, reply: Reply, principal: Principal, args: Mapping[str, Any]) -> dict[str, Any]:
    """What the tool answers to arguments that are ``readable``."""
    approval = args["approval"]
    try:
        if "answer" in args:
            told = _told(await reply(principal, approval, args["answer"]))
            return {**told, "message": f"The reviewer has your answer. {told['message']}"}
        return _told(await look(principal, approval))
    except Refused as refused:
        if refused.code == "not_found":  # somebody else's is answered like one that does not exist
            return {"approval": approval, "known": False, "message": "There is no such held call of yours."}
    told = _told(await look(principal, approval))
    return {**told, "message": f"Nobody waits for an answer. {told['message']}"}


def _told(seen: Mapping[str, Any]) -> dict[str, Any]:
    open_question = seen["question"] is not None and seen["answer"] is None
    return {
        "approval": seen["id"],
        "known": True,
        "state": seen["state"],
        "tool": seen["tool"],
        "decide_by": seen["decide_by"],
        "question": seen["question"] if open_question else None,
        "reason_code": seen["reason_code"],
        "reason": seen["reason"],
        "message": _NEXT.get(seen["state"], _OVER),
    }
