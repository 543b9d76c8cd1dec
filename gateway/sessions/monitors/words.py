"""What a monitor demands, in a sentence for the agent, where its definition has no message of its own."""

from __future__ import annotations

from typing import Any, Final

from gateway.sessions.monitors.definitions import AtMostN, AtMostTotal, Matcher, Template, Within

MAX_MESSAGE: Final = 300


def in_words(template: str, body: Template) -> str:
    apart = f" (for each {', '.join(body.by)})" if body.by else ""
    said = _SENTENCES[template].format(
        **{
            name: _some(value)
            for name in body.__struct_fields__
            if (value := getattr(body, name)) is not None
        }
    )
    if isinstance(body, AtMostN | AtMostTotal) and body.within_s is not None:
        said += f" within {body.within_s} s"
    if isinstance(body, Within):
        said += " and ".join(
            f" {value} {unit}" for value, unit in ((body.calls, "calls"), (body.seconds, "s")) if value
        )
    return f"{said}{apart}"[:MAX_MESSAGE]


_SENTENCES: Final = {
    "must_precede": "first {first} must have succeeded",
    "at_most_n": "at most {n} calls of {match}",
    "at_most_total": "the sum of {amount} of {match} may be at most {limit}",
    "never_after": "{match} is not allowed any more after {after}",
    "cannot_follow_without": "after {after}, {match} needs {unless} first",
    "mutually_exclusive": "{sets} rule each other out",
    "rate_limit": "at most {n} calls of {match} in {per_s} s",
    "separation_of_actors": "whoever did {first} may not do {then}",
    "within": "{then} is only allowed after {first}, within",
}


def _some(value: Any) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], Matcher):
        return " and ".join(_some(each) for each in value)
    if not isinstance(value, Matcher):
        return str(value)
    parts = [", ".join(value.tools)] if value.tools else []
    for name in ("risks", "effects", "domains", "labels", "actors", "status"):
        given = getattr(value, name)
        if given:
            parts.append(f"{name} {', '.join(given)}")
    if value.arguments:
        parts.append(f"certain {', '.join(value.arguments)}")
    said = " with ".join(parts)
    return said if len(said) <= 80 else f"{said[:79]}…"
