"""What a call is charged: its count, its risk, its cost, and the bytes it may carry out.

A cost that stands in the arguments or the result is read exactly. What cannot be read is ``Unreadable``, a
value of its own, so that nobody can take it for nothing: the caller denies ``amount_unreadable``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from math import isfinite
from typing import Any, Final

import msgspec

from gateway.model import Json, Manifest
from gateway.sessions.budgets import MAX_AMOUNT

# The grammar of JSON numbers, without sign and exponent: a text that a tool might read otherwise is none.
_DECIMAL: Final = re.compile(r"(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?", re.ASCII)
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)
MISSING: Final = object()
BEYOND: Final = "it is beyond 2^53 micro-USD"


class Unreadable(msgspec.Struct, frozen=True):
    """An amount that is not one; ``why`` names no value."""

    pointer: str
    why: str


def charges_of(manifest: Manifest, args: Mapping[str, Json], args_json: bytes) -> dict[str, int] | Unreadable:
    """What to reserve for a call. ``args_json`` are the canonical arguments, as they will be sent."""
    cost = manifest.cost_micro_usd
    if manifest.cost is not None and manifest.cost.arguments:
        more = amount(args, manifest.cost.arguments, manifest.cost.unit_micro_usd)
        if isinstance(more, Unreadable):
            return more
        cost += more
        if cost > MAX_AMOUNT:
            return Unreadable(manifest.cost.arguments, BEYOND)
    charges = {"calls": 1}
    if manifest.risk != "read":
        charges["writes"] = 1
        if manifest.risk != "reversible":  # what can only be made good again counts as what cannot be undone
            charges["irreversible"] = 1
    if cost:
        charges["cost_micro_usd"] = cost
    if "egress" in manifest.effects:
        charges["bytes_out"] = len(args_json)
    return charges


def charges_after(manifest: Manifest, result: Json) -> dict[str, int] | Unreadable:
    """What the result of a call changes about its charges; empty when it says nothing of its cost.

    The call has happened: when the amount is unreadable, what was reserved stays reserved.
    """
    if manifest.cost is None or manifest.cost.arguments or not manifest.cost.result:
        return {}
    more = amount(result, manifest.cost.result, manifest.cost.unit_micro_usd)
    if isinstance(more, Unreadable):
        return more
    cost = manifest.cost_micro_usd + more
    return Unreadable(manifest.cost.result, BEYOND) if cost > MAX_AMOUNT else {"cost_micro_usd": cost}


def amount(value: Json, pointer: str, unit_micro_usd: int = 1) -> int | Unreadable:
    """The amount at a JSON pointer, in micro-USD, rounded up.

    A number, or a decimal number as text (``"12.50"``), in units of ``unit_micro_usd``.
    """
    found = at(value, pointer)
    if found is MISSING:
        return Unreadable(pointer, "it is missing")
    if isinstance(found, bool) or not isinstance(found, int | float | str):
        return Unreadable(pointer, "it is neither a number nor a decimal number as text")
    if isinstance(found, str) and not _DECIMAL.fullmatch(found):
        return Unreadable(pointer, "the text is not a plain decimal number")
    if isinstance(found, float) and not isfinite(found):
        return Unreadable(pointer, "it is not a finite number")
    # A float's repr is the shortest text that means it, which is the text it was read from or an equal one.
    number = Decimal(repr(found) if isinstance(found, float) else found)
    if number.is_signed():
        return Unreadable(pointer, "it is negative")
    if number.adjusted() > 17:  # before the exact division: 1e308 is a long number
        return Unreadable(pointer, BEYOND)
    numerator, denominator = number.as_integer_ratio()
    micro_usd = -(-numerator * unit_micro_usd // denominator)
    if micro_usd > MAX_AMOUNT:
        return Unreadable(pointer, BEYOND)
    return micro_usd


def at(value: Json, pointer: str) -> Any:
    """The value at a JSON pointer (RFC 6901), or ``MISSING``."""
    if not pointer:
        return value
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping):
            value = value.get(key, MISSING)
        elif isinstance(value, list) and _INDEX.fullmatch(key) and int(key) < len(value):
            value = value[int(key)]
        else:
            return MISSING
    return value
