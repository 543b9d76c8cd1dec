"""Names that are safe to show, to log and to decide on.

A name that looks like another one (invisible or direction-changing characters), that breaks lines, or that
occurs twice would let one tool pass for another. Such a tool is refused as a whole and reported; a name is
never repaired, because policy, records and the upstream must all mean the same bytes.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from gateway.model import Json

MAX_CHARS: Final = 256
MAX_URI_CHARS: Final = 2048

# Cc control, Cf format (zero-width, bidirectional, tags), Cs surrogate, Co private use, Zl/Zp line breaks.
_REFUSED: Final = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))


def fault(name: Json, max_chars: int = MAX_CHARS) -> str:
    """Why ``name`` cannot be used, "" when it can."""
    if not isinstance(name, str) or not name:
        return "has no name"
    if len(name) > max_chars:
        return f"has a name of more than {max_chars} characters"
    if name.isascii() and name.isprintable() and name == name.strip():
        return ""
    for char in name:
        if unicodedata.category(char) in _REFUSED:
            return f"has U+{ord(char):04X} in its name, which cannot be seen or breaks a line"
    if name != name.strip():
        return "has a name that begins or ends with white space"
    return ""


def shown(name: Json) -> str:
    """``name`` for a report: escaped, so that what is wrong with it can be seen and does no harm."""
    return ascii(name)[:120]
