"""What is different between two policies, module by module and value by value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from gateway.model import Outcome
from gateway.policy.module import Bundle, Module
from gateway.policy.policy import EmbeddedPolicy
from gateway.policy.replay import decided, result_of
from gateway.recorded import Recorded


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    change: Literal["added", "removed", "changed"]
    what: Literal["rule", "library", "data"]
    name: str  # id of a rule, package of a library, path of a value
    detail: str = ""


def compared(before: Bundle, after: Bundle) -> tuple[Difference, ...]:
    """Rules by id, libraries by package, data by path; tests are no part of a policy."""
    return (
        *_modules("rule", {m.id: m for m in before.rules}, {m.id: m for m in after.rules}),
        *_modules(
            "library",
            {m.package: m for m in before.libraries.values()},
            {m.package: m for m in after.libraries.values()},
        ),
        *_data(before.data, after.data, "data"),
    )


def decided_by(policy: EmbeddedPolicy, recorded: Recorded) -> Recorded:
    """The recorded call, with what this policy says in place of what was said then."""
    if recorded.call is None:
        return recorded
    call, said = decided(policy, recorded)
    outcome: Outcome | None = recorded.outcome
    return msgspec.structs.replace(
        recorded,
        said=said,
        sent_json=call.args_json if call.modified_from else b"",
        result_said=result_of(policy, call, recorded.facts, outcome) if outcome is not None else None,
    )


def _modules(
    what: Literal["rule", "library"], before: Mapping[str, Module], after: Mapping[str, Module]
) -> Iterator[Difference]:
    for name in sorted({*before, *after}):
        if name not in after:
            yield Difference(change="removed", what=what, name=name, detail=before[name].file)
        elif name not in before:
            yield Difference(change="added", what=what, name=name, detail=after[name].file)
        elif before[name].text != after[name].text:
            yield Difference(
                change="changed",
                what=what,
                name=name,
                detail=_how(before[name], after[name]) or after[name].file,
            )


def _how(before: Module, after: Module) -> str:
    """What of a rule's METADATA changed; its text may have changed besides."""
    if before.meta is None or after.meta is None:
        return ""
    parts = []
    for name in ("mode", "phase", "severity"):
        was, now = getattr(before.custom, name), getattr(after.custom, name)
        if was != now:
            parts.append(f"{name} {was} → {now}")
    if before.scope != after.scope:
        parts.append("scope")
    for code in sorted({*before.custom.codes, *after.custom.codes}):
        if code not in after.custom.codes:
            parts.append(f"-{code}")
        elif code not in before.custom.codes:
            parts.append(f"+{code}")
    return ", ".join(parts)


def _data(before: Any, after: Any, at: str) -> Iterator[Difference]:
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        if before != after:
            yield Difference(
                change="changed", what="data", name=at, detail=f"{_brief(before)} → {_brief(after)}"
            )
        return
    for key in sorted({*before, *after}):
        here = f"{at}.{key}"
        if key not in after:
            yield Difference(change="removed", what="data", name=here, detail=_brief(before[key]))
        elif key not in before:
            yield Difference(change="added", what="data", name=here, detail=_brief(after[key]))
        else:
            yield from _data(before[key], after[key], here)


def _brief(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else f"{text[:57]}…"
