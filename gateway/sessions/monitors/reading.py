"""From the content of a file to definitions, or to a list of what is wrong with them.

Unknown keys, conditions that can never hold or always hold, and tables without a bound are refused: a monitor
that silently never speaks is a protection that is not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from gateway.sessions.monitors.definitions import (
    MAX_AMOUNT,
    MAX_TIMES,
    TEMPLATES,
    AtMostN,
    AtMostTotal,
    CannotFollowWithout,
    Definition,
    File,
    Matcher,
    MustPrecede,
    MutuallyExclusive,
    NeverAfter,
    Role,
    Template,
    Unusable,
    Within,
    canonical,
    matchers,
    only_labels,
)
from gateway.sessions.monitors.matching import regex, scaled

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
Wrong = tuple[tuple[str, ...], str]


def read(value: Any) -> dict[str, Definition]:
    """The definitions in the content of one file; raises ``Unusable`` for the first that is wrong."""
    found, wrong = examine(value)
    if wrong:
        raise wrong[0]
    return found


def examine(value: Any) -> tuple[dict[str, Definition], list[Unusable]]:
    """The definitions that can be used, and everything that is wrong with the others."""
    if not isinstance(value, Mapping) or not isinstance(value.get("monitors"), Mapping):
        return {}, [Unusable((), "a file of monitors is a mapping 'monitors:' from names to definitions")]
    unknown = [str(key) for key in value if key != "monitors"]
    wrong = [Unusable((key,), "unknown key; only 'monitors' stands at the top") for key in unknown]
    found: dict[str, Definition] = {}
    for name, said in value["monitors"].items():
        path = ("monitors", str(name))
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            why = "a name is made of a-z, 0-9, '.', '_' and '-', and begins with a letter or digit"
            wrong.append(Unusable(path, why))
            continue
        try:
            found[name] = _definition(path, said)
        except Unusable as error:
            wrong.append(error)
    return found, wrong


def schema() -> dict[str, Any]:
    """JSON Schema of a file, for editors."""
    found = msgspec.json.schema(File)
    for each in found["$defs"].values():
        each["description"] = " ".join(each["description"].replace("``", "").split())
        for name, member in each["properties"].items():
            if member.get("default", "") is None:  # absent is what null means here
                kept = [one for one in member["anyOf"] if one != {"type": "null"}]
                each["properties"][name] = kept[0] if len(kept) == 1 else {"anyOf": kept}
    found["$defs"]["Definition"]["oneOf"] = [{"required": [name]} for name in TEMPLATES]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "wardgate monitors"}
    return {**head, **found}


def _definition(path: tuple[str, ...], said: Any) -> Definition:
    try:
        found = msgspec.convert(said, Definition, strict=True)
    except msgspec.ValidationError as error:
        reason, _, at = str(error).partition(" - at `")
        below = tuple(part for part in re.split(r"[.\[\]]", at.rstrip("`").removeprefix("$")) if part)
        raise Unusable((*path, *below), f"{reason}{_known(below)}") from error
    given = [name for name in TEMPLATES if getattr(found, name) is not None]
    if len(given) != 1:
        raise Unusable(path, f"names {len(given) or 'no'} templates; name one of {', '.join(TEMPLATES)}")
    if found.on_violation != "escalate" and isinstance(said, Mapping) and "chain" in said:
        raise Unusable((*path, "chain"), "only a monitor with 'on_violation: escalate' asks a chain")
    for where, wrong in _wrong(found.template, found.body):
        raise Unusable((*path, found.template, *where), wrong)
    return found


def _known(below: tuple[str, ...]) -> str:
    """What may stand there, where a name is not known."""
    if not below:
        return f"; there are about, on_violation, message, remedy, chain and one of {', '.join(TEMPLATES)}"
    return "; see docs/reference/monitors.md"


def _wrong(template: str, body: Template) -> Iterator[Wrong]:
    for where, matcher, role in matchers(template, body):
        for at, said in _wrong_matcher(matcher, body, role):
            yield (*where, *at), said
    if body.keys is not None and body.by is None:
        yield ("keys",), "there is nothing to tell apart: give 'by', or leave 'keys' out"
    if body.by is not None and len(set(body.by)) != len(body.by):
        yield ("by",), "names the same argument twice"
    yield from _impossible(body)


def _wrong_matcher(matcher: Matcher, body: Template, role: Role) -> Iterator[Wrong]:
    if not any(getattr(matcher, name) for name in matcher.__struct_fields__ if name != "by"):
        yield (), "matches every call; write tools: ['*'] if that is meant"
    for pattern in matcher.tools or ():
        if pattern != "*" and pattern.count("/") == 0:
            yield ("tools",), f"'{pattern}' must be 'upstream/name', as in 'git/*', or '*'"
    if matcher.status is not None and role == "judged":
        yield ("status",), "how a call ends is not known when it is judged; leave 'status' out here"
    for pointer, argument in (matcher.arguments or {}).items():
        given = (
            argument.equals is not msgspec.UNSET,
            argument.one_of is not None,
            argument.matches is not None,
        )
        if sum(given) != 1:
            yield ("arguments", pointer), "give one of 'equals', 'one_of' and 'matches'"
        if argument.matches is not None:
            try:
                regex(argument.matches)
            except ValueError as error:
                yield ("arguments", pointer, "matches"), str(error)
    if matcher.by is not None and (body.by is None or len(matcher.by) != len(body.by)):
        yield ("by",), "names as many arguments as the monitor's own 'by', in the same order"


def _impossible(body: Template) -> Iterator[Wrong]:
    """Definitions under which the call that is meant is always wrong, or never."""
    if isinstance(body, MustPrecede | Within) and body.first == body.then:
        yield (), "'first' and 'then' are the same calls, so none could ever be the first"
    if isinstance(body, Within) and body.calls is None and body.seconds is None:
        yield (), "give 'calls', 'seconds' or both"
    if isinstance(body, CannotFollowWithout) and body.unless in (body.after, body.match):
        yield ("unless",), "is the same as 'after' or 'match', so it could never help"
    if isinstance(body, MutuallyExclusive) and len({canonical(each) for each in body.sets}) < len(body.sets):
        yield ("sets",), "two sets are the same calls, which would rule themselves out"
    if isinstance(body, CannotFollowWithout) and body.after.labels is not None:
        yield ("after", "labels"), "a label stays, so 'unless' could never help; use 'never_after'"
    if isinstance(body, NeverAfter) and body.by is not None and only_labels(body.after):
        yield ("by",), "a label is of the session, not of a key; leave 'by' out"
    if isinstance(body, AtMostN) and body.within_s is not None and body.n > MAX_TIMES:
        yield ("n",), f"more than {MAX_TIMES} within a time are counted by 'rate_limit'"
    if isinstance(body, AtMostTotal):
        limit = scaled(body.limit, body.decimals)
        if limit is None or limit > MAX_AMOUNT:
            yield (
                ("limit",),
                f"is no number of {body.decimals} decimals up to {MAX_AMOUNT // 10**body.decimals}",
            )
