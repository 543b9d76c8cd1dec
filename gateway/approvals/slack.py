"""Approvals in Slack: a message with buttons, and the person's click that comes back, signed by Slack.

Slack signs with HMAC-SHA256 over ``v0:<seconds>:`` and the body as it is on the wire. The click names the
person, and what the message was about comes back in it as we wrote it: id, version and digest. Without the
arguments in the message there is no button to approve: what nobody has looked at, nobody approves.

Block Kit: https://docs.slack.dev/reference/block-kit, signing:
https://docs.slack.dev/authentication/verifying-requests-from-slack.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
import orjson

from gateway.approvals.values import REJECT_CODES, Notice
from gateway.approvals.words import fields, inert

VERSION: Final = "v0"
ASKS: Final = ("opened", "reminded", "escalated")
"""Events of which the message has buttons."""

EVENTS: Final = (
    *ASKS, "approved", "rejected", "cancelled", "superseded", "expired", "in_doubt", "executed", "failed",
    "answered", "incident",
)  # fmt: skip

MAX_SHOWN: Final = 2500
"""Characters of arguments that fit a section of a message."""

_MARK: Final = "wardgate"
_LABELS: Final = {
    "not_needed": "Not needed", "wrong_arguments": "Wrong arguments", "too_risky": "Too risky",
    "out_of_scope": "Out of scope", "not_now": "Not now", "other": "Other",
}  # fmt: skip


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What may be shown of a call outside; ``whole`` when nothing of it is left out or invisible."""

    arguments: str = ""
    whole: bool = False


class Click(msgspec.Struct, frozen=True, kw_only=True):
    """What a person clicked, about what they were shown."""

    approval: str
    version: int
    digest: str
    actor: str
    decision: str
    reason_code: str = ""


def message(notice: Notice, preview: Preview, link: str = "") -> dict[str, Any]:
    """The message about a notice, for an incoming webhook."""
    approval = notice.approval
    said = fields(notice)
    text = f"{said['what']}: {said['tool']}"
    until = int(approval.decide_by_ns / 1e9)
    moment = datetime.fromtimestamp(until, UTC).strftime("%H:%M UTC")
    lines = [
        f"*{_escaped(said['what'])}*: `{_escaped(said['tool'])}` ({_escaped(said['risk'])})",
        f"Agent `{_escaped(said['agent'])}`, because of {_escaped(said['codes'])}",
    ]
    if notice.event in ASKS:
        lines.append(f"Decide by <!date^{until}^{{time}}|{moment}>")
    if link:
        lines.append(f"<{link.replace('{id}', approval.id)}|Look at it>")
    blocks: list[dict[str, Any]] = [_section("\n".join(lines))]
    if notice.event in ASKS:
        if preview.arguments:
            blocks.append(_section(f"```{_escaped(preview.arguments)}```"))
        blocks.append(_buttons(notice, approve=preview.whole))
    return {"text": _escaped(text), "blocks": blocks, "unfurl_links": False}


def clicked(body: bytes) -> Click:
    """The click in a request of Slack; ``ValueError`` when it is none of our buttons."""
    found = parse_qs(body.decode(), strict_parsing=True, max_num_fields=4).get("payload", [])
    if len(found) != 1:
        raise ValueError("no payload")
    said = orjson.loads(found[0])
    if not isinstance(said, Mapping) or said.get("type") != "block_actions":
        raise ValueError("not a click")
    try:
        (action,) = said["actions"]
        mark, approval, version, digest = str(action["block_id"]).split("|")
        chosen = action["selected_option"] if action.get("type") == "static_select" else action
        decision, _, code = str(chosen["value"]).partition("|")
        actor = str(said["user"]["id"])
    except (KeyError, TypeError, ValueError):
        raise ValueError("none of our buttons") from None
    if mark != _MARK or decision not in ("approve", "reject") or not version.isdigit():
        raise ValueError("none of our buttons")
    return Click(
        approval=approval, version=int(version), digest=digest, actor=actor, decision=decision,
        reason_code=code,
    )  # fmt: skip


def _buttons(notice: Notice, *, approve: bool) -> dict[str, Any]:
    approval = notice.approval
    elements: list[dict[str, Any]] = []
    if approve:
        elements.append(
            {
                "type": "button", "action_id": "approve", "style": "primary", "text": _plain("Approve"),
                "value": "approve",
                "confirm": {
                    "title": _plain("Approve this call?"),
                    "text": _plain("It is carried out exactly as it is shown here, once."),
                    "confirm": _plain("Approve"), "deny": _plain("Go back"),
                },
            }
        )  # fmt: skip
    elements.append(
        {
            "type": "static_select", "action_id": "reject", "placeholder": _plain("Reject …"),
            "options": [
                {"text": _plain(_LABELS[code]), "value": f"reject|{code}"} for code in REJECT_CODES
            ],
        }
    )  # fmt: skip
    # At most 255 characters; Slack gives it back as it is.
    shown = f"{_MARK}|{approval.id}|{approval.version}|{approval.digest}"
    return {"type": "actions", "block_id": shown, "elements": elements}


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:3000], "verbatim": True}}


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text}


def _escaped(text: str) -> str:
    """The three characters Slack gives a meaning to, and the one that would end our own marks."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("`", "'").replace("*", "∗") if "\n" not in text else text.replace("`", "'")


def shown(arguments_json: bytes, *, hidden: bool) -> Preview:
    """Arguments for a message; not whole when they are long, or not shown as they are.

    ``hidden`` says that something is left out of them already, or cannot be seen.
    """
    pretty = orjson.dumps(orjson.loads(arguments_json), option=orjson.OPT_INDENT_2).decode()
    lines = "\n".join(inert(line, MAX_SHOWN, spaces=True) for line in pretty.splitlines())
    # A button approves what is sent: a character that is written otherwise here makes it another call.
    same = lines == pretty and "`" not in pretty
    whole = not hidden and same and len(_escaped(lines)) <= MAX_SHOWN
    return Preview(arguments=lines[:MAX_SHOWN] + ("" if whole else " …"), whole=whole)
