"""Reading what somebody wrote value by value; all that is wrong is gathered, not only the first."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from math import isfinite
from typing import Any, Final

from gateway.errors import Fault
from gateway.model import Json
from gateway.sessions.budgets import MAX_AMOUNT

# Shapeless characters that are of no telling category: variation selectors, fillers, joiners.
_SHAPELESS: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)


class Reading:
    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def fault(self, at: str, what: str, remedy: str) -> None:
        self.faults.append(Fault(at, what, remedy))

    def unknown(self, raw: Mapping[str, Json], at: str, known: Collection[str]) -> None:
        for key in raw:
            if key not in known:
                shown = ascii(key)[:80]
                self.fault(at, f"has {shown}, which means nothing here", f"one of {', '.join(known)}")

    def text(self, value: Json, at: str, most: int, *, blank: bool = False) -> str | None:
        """Text that a person sees as it is, or a fault. Empty text is what nobody wrote, unless ``blank``."""
        if not isinstance(value, str):
            self.fault(at, "is not text", "write a text")
        elif size_of(value) > most:
            self.fault(at, f"is {size_of(value):,} bytes", f"at most {most:,}")
        elif (point := _hidden(value)) is not None:
            self.fault(at, f"has U+{point:04X}, which cannot be seen or breaks a line", "leave it out")
        elif value != value.strip():
            self.fault(at, "begins or ends with white space", "leave it out")
        elif not value and not blank and at != "/objective":
            self.fault(at, "is empty", "leave it out")
        else:
            return value
        return None

    def integer(self, raw: Mapping[str, Json], key: str, at: str, least: int, most: int) -> int | None:
        if key not in raw:
            return None
        value = raw[key]
        if type(value) is not int or not least <= value <= most:
            self.fault(at, f"is not an integer between {least} and {most}", "write such a number")
            return None
        return value

    def number(self, raw: Mapping[str, Json], at: str, word: str, where: str = "") -> int | float | None:
        if word not in raw:
            return None
        value = raw[word]
        if type(value) not in (int, float) or not isfinite(value) or abs(value) > MAX_AMOUNT:
            self.fault(
                where or f"{at}/{word}", "is not a number between -2^53 and 2^53", "write such a number"
            )
            return None
        found: int | float = value
        return found

    def flag(self, raw: Mapping[str, Json], at: str, word: str) -> bool:
        if word in raw and raw[word] is not True:
            # 'required: false' bounds nothing, and whoever wrote it may have meant another thing.
            self.fault(f"{at}/{word}", "is not true", "write true, or leave it out")
        return raw.get(word) is True

    def object(self, raw: Mapping[str, Json], key: str, at: str = "") -> Mapping[str, Json]:
        value = raw.get(key, {})
        if not isinstance(value, Mapping):
            self.fault(at or f"/{key}", "is not an object", "write an object")
            return {}
        return value

    def each(
        self, raw: Mapping[str, Json], key: str, most: int, read: Callable[[Json, str], Any], at: str = ""
    ) -> tuple[Any, ...]:
        value, at = raw.get(key, ()), at or f"/{key}"
        if not isinstance(value, list | tuple):
            self.fault(at, "is not a list", "write a list")
            return ()
        if len(value) > most:
            self.fault(at, f"has {len(value)} members", f"at most {most}")
            return ()
        found: list[Any] = []
        for number, item in enumerate(value):
            one = read(item, f"{at}/{number}")
            if one is not None:
                if any(one == other and type(one) is type(other) for other in found):
                    self.fault(f"{at}/{number}", "stands there twice", "leave it out")
                found.append(one)
        return tuple(found)


def place(*parts: object) -> str:
    """A JSON pointer to a place whose names may hold '/'; what cannot be seen is escaped."""
    names = (ascii(part)[1:-1][:120] if isinstance(part, str) else str(part)[:120] for part in parts)
    return "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in names)


def size_of(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _hidden(text: str) -> int | None:
    """The first character that has no shape, turns text round, or breaks a line."""
    if text.isascii() and text.isprintable():
        return None
    for char in text:
        if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") or _SHAPELESS.match(char):
            return ord(char)
    return None
