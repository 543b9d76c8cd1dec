"""Arguments and results in spans, for those who ask for them (``telemetry.trace_content``).

What is shown has lost what the tool's manifest calls sensitive, what policy took out of the result, and
whatever looks like a credential; and it is cut at ``LONGEST`` characters. A span is read by more people than
a record, and kept where the gateway cannot erase it, so the switch is off unless somebody turns it.
"""

from __future__ import annotations

from typing import Final

import orjson

from gateway.journal.display import redact
from gateway.model import Answer, Call
from gateway.telemetry import semconv
from gateway.telemetry.logs import clean

LONGEST: Final = 2000


def shown(call: Call, answer: Answer | None) -> dict[str, str]:
    """The attributes of one call of a tool; of anything else none."""
    if call.tool.kind != "tool":
        return {}
    arguments = orjson.dumps(redact(dict(call.args), call.tool.manifest.sensitive))
    found = {semconv.ARGUMENTS: _cut(arguments)}
    if answer is not None and answer.result_json:
        found[semconv.RESULT] = _cut(answer.result_json)
    return found


def _cut(text: bytes) -> str:
    # Masked before it is cut: half a credential need not look like one.
    masked = clean(text[: 4 * LONGEST].decode("utf-8", "replace"))
    return masked if len(masked) <= LONGEST else masked[:LONGEST] + "…"
