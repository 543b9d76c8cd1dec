"""Text of agents and upstreams as people may see it: every character that hides or turns text is named.

What is shown is a list of pieces. A piece is plain text, or a character with the name it gets instead of its
effect. Templates escape the text, so markup in it is text as well.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, NamedTuple

_HIDDEN: Final = frozenset(("Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"))
# Without a shape of their own although their category says otherwise: joiners, selectors, fillers, a blank.
_MORE: Final = frozenset(
    [0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10),
     *range(0x180B, 0x1810), *range(0xE0100, 0xE01F0)]
)  # fmt: skip
_WORD: Final = re.compile(r"[^\W\d_]{2,}")
_LOOKALIKE: Final = ("CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "FULLWIDTH", "MATHEMATICAL")


class Piece(NamedTuple):
    text: str
    name: str = ""  # of a character that is shown by its name: "U+202E RIGHT-TO-LEFT OVERRIDE"


def pieces(text: str, limit: int = 20_000) -> list[Piece]:
    """``text`` in pieces; what is beyond ``limit`` characters is said to be missing."""
    cut, text = len(text) - limit, text[:limit]
    if text.isascii() and text.isprintable():
        found = [Piece(text)] if text else []
    else:
        found = []
        plain: list[str] = []
        for char in text:
            if char == "\n" or not concealed(char):
                plain.append(char)
                continue
            if plain:
                found.append(Piece("".join(plain)))
                plain = []
            found.append(Piece(_short(char), _named(char)))
        if plain:
            found.append(Piece("".join(plain)))
    if cut > 0:
        found.append(Piece(f"… {cut:,} more", "not shown: too long"))
    return found


def concealed(char: str) -> bool:
    """Whether a character cannot be seen for what it is; a space that is not the usual one is such a one."""
    if "\x20" <= char <= "\x7e":
        return False
    category = unicodedata.category(char)
    return category in _HIDDEN or ord(char) in _MORE or category == "Zs"


def warnings(text: str) -> list[str]:
    """What a reader should know of a text, in words."""
    found = []
    hidden = {char for char in text if char not in "\n\t" and concealed(char)}
    if hidden:
        found.append("characters that cannot be seen")
    if any(unicodedata.bidirectional(char) in _TURNS for char in hidden):
        found.append("characters that turn the order of text around")
    if any(_mixed(word) for word in _WORD.findall(text) if not word.isascii()):
        found.append("words that mix alphabets which look alike")
    if re.search(r"[^\S\n]{80}|\n(?:[^\S\n]*\n){20}", text):
        found.append("white space that pushes text out of sight")
    return found


_TURNS: Final = frozenset(("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"))


def _mixed(word: str) -> bool:
    """A Latin word with letters of an alphabet that looks like it."""
    kinds = {unicodedata.name(char, "?").split()[0] for char in word}
    return "LATIN" in kinds and not kinds.isdisjoint(_LOOKALIKE)


def _short(char: str) -> str:
    known = {"\t": "TAB", "\r": "CR", "\x1b": "ESC", "\x00": "NUL", "\xa0": "NBSP"}
    return known.get(char, f"U+{ord(char):04X}")


def _named(char: str) -> str:
    return f"U+{ord(char):04X} {unicodedata.name(char, 'control character')}"
