"""Obligations: what must also happen when a call is allowed, and how several of them become one.

    redact   {"pointers": [..], "keys": [..], "patterns": {name: RE2}}    unite
    cap      {"pointer": "/amount_micro_usd", "max": 1000}                the minimum per pointer
    label    ["untrusted", ..]                                            join
    declassify  ["untrusted", ..]  taken off the session afterwards        join
    cost     micro-USD                                                    add
    notify   ["channel", ..]                                              unite

Anything else, or two that contradict each other, raises ``Conflict`` and the call is refused: an obligation
that is dropped silently is a protection that is not there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec

from gateway.model import Json, Obligation
from gateway.policy.redact import CannotRedact, Redaction, redact, replace_at

CALL_DUTIES: Final = frozenset({"redact", "cap", "label", "declassify", "cost", "notify"})
RESULT_DUTIES: Final = frozenset({"redact", "label", "declassify", "notify"})

_Pointer = Annotated[str, msgspec.Meta(pattern=r"^/")]


class Conflict(Exception):
    """Obligations that cannot be met; ``rule`` is the id of one module that asked."""

    def __init__(self, rule: str, why: str) -> None:
        super().__init__(why)
        self.rule = rule


class Cap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pointer: _Pointer
    max: int


class _Redact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pointers: tuple[_Pointer, ...] = ()
    keys: tuple[str, ...] = ()
    patterns: dict[str, str] = {}


_VALUES: Final[Mapping[str, Any]] = {
    "redact": _Redact,
    "cap": Cap,
    "label": tuple[str, ...],
    "declassify": tuple[str, ...],
    "cost": Annotated[int, msgspec.Meta(ge=0)],
    "notify": tuple[str, ...],
}


def merge(asked: Iterable[Obligation], duties: Collection[str]) -> tuple[Obligation, ...]:
    """At most one obligation of each kind (one cap per pointer), whatever the order they came in."""
    by_kind: dict[str, list[tuple[str, Any]]] = {}
    for item in asked:
        if item.kind not in duties:
            raise Conflict(item.rule, f"unknown obligation '{item.kind}'")
        try:
            value = msgspec.convert(item.value, _VALUES[item.kind], strict=True)
        except msgspec.ValidationError as error:
            raise Conflict(item.rule, f"{item.kind}: {error}") from error
        by_kind.setdefault(item.kind, []).append((item.rule, value))
    merged: list[Obligation] = []
    for kind in sorted(by_kind):
        given = by_kind[kind]
        rule = ",".join(sorted({rule for rule, _ in given}))
        values = [value for _, value in given]
        merged += [Obligation(kind=kind, value=value, rule=rule) for value in _join(kind, values, rule)]
    return tuple(merged)


def _join(kind: str, values: list[Any], rule: str) -> list[Json]:
    if kind == "cost":
        return [sum(values)]
    if kind in ("label", "declassify", "notify"):
        return [sorted({item for value in values for item in value})]
    if kind == "cap":
        lowest: dict[str, int] = {}
        for cap in values:
            lowest[cap.pointer] = min(cap.max, lowest.get(cap.pointer, cap.max))
        return [{"pointer": pointer, "max": top} for pointer, top in sorted(lowest.items())]
    patterns: dict[str, str] = {}
    for value in values:
        for name, pattern in value.patterns.items():
            if patterns.setdefault(name, pattern) != pattern:
                raise Conflict(rule, f"the redaction pattern '{name}' has two meanings")
    joined = {
        "pointers": sorted({item for value in values for item in value.pointers}),
        "keys": sorted({item for value in values for item in value.keys}),
        "patterns": dict(sorted(patterns.items())),
    }
    if not any(joined.values()):
        raise Conflict(rule, "a redaction that names nothing")
    return [joined]


def labels(duties: Sequence[Obligation]) -> tuple[str, ...]:
    return next((tuple(item.value) for item in duties if item.kind == "label"), ())


def redaction(duties: Sequence[Obligation]) -> Redaction | None:
    """The redaction among merged obligations; ``CannotRedact`` for a pattern that is not RE2."""
    value = next((item.value for item in duties if item.kind == "redact"), None)
    return Redaction.of(value["pointers"], value["keys"], value["patterns"]) if value is not None else None


def modified(args: Mapping[str, Json], duties: Sequence[Obligation]) -> Mapping[str, Json] | None:
    """New arguments, or ``None`` when they meet the obligations; ``CannotRedact`` when they cannot."""
    changed: Any = args
    for item in duties:
        if item.kind == "cap":
            changed = replace_at(changed, item.value["pointer"], _capper(item.value["max"]))
    wanted = redaction(duties)
    if wanted is not None:
        changed = redact(changed, wanted)
    return None if changed is args else changed


def _capper(top: int) -> Any:
    def cap(value: Json) -> Json:
        # "1e9" in a string, or true, may be read as a number by the tool and not by us.
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CannotRedact("the value to cap is not a number")
        return value if value <= top else top

    return cap
