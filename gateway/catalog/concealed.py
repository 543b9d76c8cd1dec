"""Text that a person who reads a definition does not see and a model does.

Found are characters without a shape (tags, zero-width, direction, variation selectors, private use, controls
and with them ANSI escapes), markup that hides what it holds, white space that pushes text out of sight, and
texts longer than anybody reads. What a text *says* is not judged.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Final

import orjson
import re2

from gateway.model import Json

MAX_TEXT: Final = 16_384
"""Characters of one text. The longest descriptions of servers in use have some thousands."""

_SHOWN: Final = 20

# Beside the categories: variation selectors, fillers, joiners and marks without a shape, and code points set
# aside for such characters.
_UNSEEN: Final = re2.compile(
    r"[\p{Cc}\p{Cf}\p{Co}\x{FE00}-\x{FE0F}\x{E0000}-\x{E0FFF}\x{115F}\x{1160}\x{3164}\x{FFA0}\x{034F}"
    r"\x{17B4}\x{17B5}\x{180B}-\x{180F}\x{2028}\x{2029}\x{2065}\x{2800}\x{FFF0}-\x{FFF8}]"
)
_MARKUP: Final = re2.compile(
    r"(?i)<!--|<!\[CDATA\[|\[(?://|comment)\]:\s*[#<(]|display\s*:\s*none|visibility\s*:\s*hidden"
    r"|(?:font-size|opacity)\s*:\s*0(?:\.0+)?(?:px|pt|r?em|%)?\s*[;\"'}]|<[a-z][^<>]*\shidden[\s=/>]"
)
_PADDING: Final = re2.compile(r"[^\S\n]{200}|\n(?:[^\S\n]*\n){40}")
# What an encoded definition must hold for a second look to be worth its time.
_WORTH_A_LOOK: Final = re2.compile(
    rb"[\x7f<]|\\u|\\[bf]|\]:|(?i:display|visibility|font-size|opacity)|(?: |\\[nrt]){40}"
)


def conceals(encoded: bytes) -> bool:
    """Whether there is anything of the kind in a definition, given as JSON."""
    if encoded.isascii() and len(encoded) <= MAX_TEXT and not _WORTH_A_LOOK.search(encoded):
        return False
    return next(_found(orjson.loads(encoded)), None) is not None


def findings(definition: Json) -> list[str]:
    """What is concealed and where, for people; at most 20."""
    found: list[str] = []
    for finding in _found(definition):
        if len(found) == _SHOWN:
            return [*found, "and more"]
        found.append(finding)
    return found


def unseen(text: str) -> Iterator[int]:
    """Where ``text`` has a character that cannot be seen and is not part of how a visible one is written."""
    if text.isascii() and text.isprintable():
        return
    for match in _UNSEEN.finditer(text):
        at = match.start()
        if text[at] not in "\t\n\r" and not _shapes(text, at):
            yield at


def _found(definition: Json) -> Iterator[str]:
    stack: list[tuple[str, Json]] = [("", definition)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, dict):
            for key, inner in value.items():
                stack.append((f"{path}/{ascii(key)[1:-1][:40]}", inner))
                yield from _of_text(f"a name in {path or '/'}", key)
        elif isinstance(value, list):
            stack += [(f"{path}/{number}", inner) for number, inner in enumerate(value)]
        elif isinstance(value, str):
            yield from _of_text(path, value)


def _of_text(where: str, text: str) -> Iterator[str]:
    for point in dict.fromkeys(ord(text[at]) for at in unseen(text)):
        yield f"U+{point:04X} {unicodedata.name(chr(point), 'a control character')} in {where}"
    if _MARKUP.search(text):
        yield f"markup that hides text in {where}"
    if _PADDING.search(text):
        yield f"white space that pushes text out of sight in {where}"
    if len(text) > MAX_TEXT:
        yield f"a text of {len(text):,} characters in {where}"


def _shapes(text: str, at: int) -> bool:
    """Whether the character decides how its neighbours look: an emoji's style, or a joiner inside a word."""
    before = text[at - 1] if at else ""
    after = text[at + 1 : at + 2]
    if text[at] in "\ufe0e\ufe0f":
        return _emoji(before) or (before != "" and before in "#*0123456789‼⁉ℹ〰")
    if text[at] == "\u200d" and _emoji(after):
        return _emoji(before) or (before == "\ufe0f" and _emoji(text[at - 2 : at - 1]))
    if text[at] in "\u200c\u200d":
        return all(
            char >= "\u0600" and unicodedata.category(char)[0] in "LM"
            for char in (before or " ", after or " ")
        )
    return False


def _emoji(char: str) -> bool:
    return char != "" and unicodedata.category(char) in ("So", "Sm", "Sk") and not char.isascii()
