"""``sprintf`` as OPA has it, which is Go's: the message of a finding is part of a decision.

The engine's own writes ``0.0000001`` for ``1e-07`` and fails where Go writes ``%!d(float64=0.5)``. The gate
lets only verbs pass that are here.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

import orjson

_VERB: Final = re.compile(r"%(.?)", re.DOTALL)
_VERBS: Final = frozenset("vsdtq%")
_ESCAPES: Final = {
    "\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v", "\\": r"\\",
}  # fmt: skip
_EXPONENT_FROM: Final = 6
_DOUBLE: Final = '"'
_SINGLE: Final = "'"
_POINTER: Final = "*"
_LEAST: Final = -(2**63)
_MOST: Final = 2**63 - 1

_SINCE_15: Final = (
    (0xcf3, 0xcf3), (0xece, 0xece), (0x10efd, 0x10eff), (0x1123f, 0x11241), (0x11b00, 0x11b09),
    (0x11f00, 0x11f10), (0x11f12, 0x11f3a), (0x11f3e, 0x11f59), (0x1342f, 0x1342f), (0x13440, 0x13455),
    (0x1b132, 0x1b132), (0x1b155, 0x1b155), (0x1d2c0, 0x1d2d3), (0x1df25, 0x1df2a), (0x1e030, 0x1e06d),
    (0x1e08f, 0x1e08f), (0x1e4d0, 0x1e4f9), (0x1f6dc, 0x1f6dc), (0x1f774, 0x1f776), (0x1f77b, 0x1f77f),
    (0x1f7d9, 0x1f7d9), (0x1fa75, 0x1fa77), (0x1fa87, 0x1fa88), (0x1faad, 0x1faaf), (0x1fabb, 0x1fabd),
    (0x1fabf, 0x1fabf), (0x1face, 0x1facf), (0x1fada, 0x1fadb), (0x1fae8, 0x1fae8), (0x1faf7, 0x1faf8),
    (0x2b739, 0x2b739), (0x31350, 0x323af),
)  # fmt: skip
"""What Unicode 15.0 made printable: OPA's Go has it, Python 3.11 is at 14.0."""
_PRINTABLE: Final = re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in _SINCE_15) + "]")


def problem(template: str) -> str | None:
    """Why a template is not one of ours, or ``None``."""
    for found in _VERB.finditer(template):
        if found[1] not in _VERBS or not found[1]:
            return f"sprintf: '{found[0]}' is not supported; use %v, %s, %d, %q, %t or %%"
    return None


def sprintf(template: str, values: list[Any]) -> str:
    said: list[str] = []
    at = used = 0
    for found in _VERB.finditer(template):
        said.append(template[at : found.start()])
        at = found.end()
        if found[1] == "%":
            said.append("%")
        elif used < len(values):
            said.append(_one(found[1], values[used]))
            used += 1
        else:
            said.append(f"%!{found[1]}(MISSING)")
    said.append(template[at:])
    if used < len(values):
        extra = ", ".join(f"{_type(value)}={_plain(value)}" for value in values[used:])
        said.append(f"%!(EXTRA {extra})")
    return "".join(said)


def _one(verb: str, value: Any) -> str:
    kind = _type(value)
    fits = {"v": True, "s": kind in ("string", "*big.Int"), "d": kind in ("int64", "*big.Int")}
    if fits.get(verb, False):
        return _plain(value)
    if verb == "q" and kind == "string":
        return quoted(_plain(value))
    if verb == "q" and kind == "int64":  # a character, in Go
        char = chr(value) if 0 <= value <= 0x10FFFF and not 0xD800 <= value < 0xE000 else "\ufffd"
        return f"{_SINGLE}{_escaped(char, _SINGLE)}{_SINGLE}"
    return f"%!{verb}({kind.removeprefix(_POINTER)}={_plain(value)})"


def _type(value: Any) -> str:
    """Go's type of what OPA hands to its ``Sprintf``: all but numbers are strings."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "string"
    if isinstance(value, float):
        return "float64"
    return "int64" if _LEAST <= value <= _MOST else "*big.Int"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return go_float(value)
    return value if isinstance(value, str) else term(value)


def term(value: Any) -> str:
    """A value as Rego writes it."""
    if isinstance(value, str):
        return quoted(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return orjson.dumps(value).decode()  # within a value OPA leaves a number as it was written
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(term, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{term(key)}: {term(value[key])}' for key in sorted(value))}}}"
    raise TypeError(f"sprintf: a {type(value).__name__} cannot be written; make it a list")


def quoted(text: str) -> str:
    """Go's ``strconv.Quote``."""
    return _DOUBLE + "".join(_escaped(char, _DOUBLE) for char in text) + _DOUBLE


def _escaped(char: str, quote: str) -> str:
    if char == quote:
        return f"\\{quote}"
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable() or _PRINTABLE.match(char):
        return char
    point = ord(char)
    return f"\\x{point:02x}" if point < 0x80 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def go_float(value: float) -> str:
    """Go's ``%v``: the shortest digits, with an exponent below 1e-4 and from 1e6 on."""
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    assert isinstance(exponent, int), "JSON has only finite numbers"
    text = "".join(map(str, digits)).rstrip("0")
    if not text:
        return "-0" if sign else "0"
    first = len(digits) + exponent - 1
    if -4 <= first < _EXPONENT_FROM:
        plain = format(Decimal(repr(value)), "f")
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    rest = f".{text[1:]}" if len(text) > 1 else ""
    return f"{'-' if sign else ''}{text[0]}{rest}e{'-' if first < 0 else '+'}{abs(first):02d}"
