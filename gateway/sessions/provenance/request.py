"""The user's own words, and the mandate's: which values they name.

A value is named when it stands there as a token of its own. What is part of a longer token is another value:
``bob@x.com`` names neither ``b@x.com`` nor ``bob@x.com.evil.net``. Addresses, URLs, IBANs, numbers and paths
are cut out as the longest token of their kind and compared by form (``forms.py``); other words and phrases
are searched, and count when both their ends are ends of tokens.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from gateway.sessions.provenance import forms
from gateway.sessions.provenance.lists import CUES_AFTER, CUES_BEFORE

_CJK: Final = "\u3000-\u30ff\u3400-\u9fff\uac00-\ud7af\uff00-\uff0f\uff1a-\uff20\uff5b-\uff65"
_ENDS: Final = rf"\s\"`<>()\[\]{{}},;|*\u2018-\u201f\u00ab\u00bb\u2013\u2014\u2026{_CJK}"
_SPLIT: Final = re.compile(f"[{_ENDS}]+")
_OPEN: Final = re.compile(f"[{_ENDS}]")
_CLOSE: Final = re.compile(rf"[.:!?]*(?:[{_ENDS}]|$)|['’](?:s\b|(?!\w))")
_TRAILING: Final = ".,:;!?'*"
_URL: Final = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]{{1,15}}://[^\s\"'`<>{_CJK}]+")
_PATH: Final = re.compile(rf"(?<![^\s\"'`(,;<:={_CJK}])(?:~?/|\.{{1,2}}/|[A-Za-z]:\\)[^\s\"'`,;<>|{_CJK}]+")
_QUOTED: Final = re.compile(r"\"([^\"\n]{1,1000})\"|`([^`\n]{1,1000})`|'([^'\n]{1,1000})'|“([^”\n]{1,1000})”")
_IBAN: Final = re.compile(r"(?<!\w)[A-Z]{2}[0-9]{2}(?:[ -][A-Z0-9]{4}){2,7}(?:[ -][A-Z0-9]{1,4})?(?!\w)")
_PHONE: Final = re.compile(r"(?<![\w.+])(?:\+|00)[0-9][0-9 ().-]{5,22}[0-9](?!\w)")
_NUMBER: Final = re.compile(
    r"(?<![\w.,:/-])[$€£]?((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?)(?:[€%])?(?!\w|[.,:/-]\w)"
)
_FENCED: Final = re.compile(r"```[^\n`]{0,40}\n(.*?)```", re.DOTALL)
_BLANK: Final = re.compile(r"\n\s*\n")
_AFTER_COLON: Final = re.compile(r"[A-Za-z][^:\n]{0,200}:\s")
_GAP: Final = re.compile(r"\s+")
_LAST_WORD: Final = re.compile(r"\w+$")
_NEXT_WORD: Final = re.compile(r"[\"'`”’]? (\w+)")
_TRIES: Final = 32  # places where a value is looked at before it counts as not named


def named_forms(text: str) -> Iterator[bytes]:
    """Forms of every value that a text names. The text is the user's; it is folded first."""
    text = unicodedata.normalize("NFKC", text)
    for found in _URL.finditer(text):
        yield from forms.known_forms(_trimmed(found[0]), named=True)
    rest = _URL.sub(" ", text)
    for found in _IBAN.finditer(rest):
        yield from _ibans(found[0])
    for pattern in (_PHONE, _NUMBER):
        for found in pattern.finditer(rest):
            yield from forms.known_forms(found[found.re.groups], named=True)
    for token in _SPLIT.split(rest):
        yield from _token(token)
    for found in _QUOTED.finditer(rest):
        quoted = found[found.lastindex or 0]
        if "/" in quoted or "\\" in quoted:
            yield from forms.known_forms(quoted, named=True)
    # "/home/me/My" is no path of "/home/me/My Files": what is quoted is one value.
    unquoted = _QUOTED.sub(lambda found: found[0] if " " not in found[0] else " ", rest)
    for found in _PATH.finditer(unquoted):
        place = _trimmed(found[0])
        if not place.endswith("\\"):
            yield from forms.known_forms(place, named=True)


def _token(token: str) -> Iterator[bytes]:
    token = token.strip(_TRAILING)
    if token.endswith("’s"):
        token = token[:-2]
    if not token or token[0] in "/~" or "\\" in token:
        return  # paths and URLs are found by themselves
    for form in forms.known_forms(token, named=True):
        if not form.startswith(b"n:"):  # "1,200" was cut at its comma; numbers are found by themselves
            yield form


def _ibans(text: str) -> Iterator[bytes]:
    """``GB29 … 19 EUR`` may end in a word; the check digits say which it is, else the longest counts."""
    groups = re.split("[ -]", text)
    whole = "".join(groups)
    shorter = "".join(groups[:-1])
    best = shorter if _checks(shorter) and not _checks(whole) else whole
    yield from forms.known_forms(best, named=True)


def _checks(iban: str) -> bool:
    turned = iban[4:] + iban[:4]
    return len(iban) >= 14 and int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


def _trimmed(text: str) -> str:
    """Without the punctuation of the sentence around it."""
    while text and (text[-1] in _TRAILING or (text[-1] in ")]}" and not _balanced(text))):
        text = text[:-1]
    return text


def _balanced(text: str) -> bool:
    close = text[-1]
    return text.count("([{"[")]}".index(close)]) >= text.count(close)


def names(text: str, value: str, *, fold: bool = False, person: bool = False) -> bool:
    """Whether a value stands in a text as a token, or as several in a row.

    ``fold``: whatever its case. ``person``: and, when it is one plain word, looks like the name of somebody
    or of a place to write to. Any other word of the request may be what an outsider calls himself.
    """
    wanted = _GAP.sub(" ", value.strip())
    where, plain = (_lower(text), _lower(wanted)) if fold else (text, wanted)
    word = person and wanted.isascii() and wanted.isalpha()
    start = where.find(plain)
    for _ in range(_TRIES):
        if start < 0:
            return False
        end = start + len(plain)
        if _stands_alone(where, start, end) and not (word and _is_common(text, start, end)):
            return True
        start = where.find(plain, start + 1)
    return False


def _lower(text: str) -> str:
    """Case of ASCII only, which changes no length: other letters have look-alikes that fold to one."""
    return text.lower() if text.isascii() else text.encode("utf-8", "replace").lower().decode()


def _is_common(text: str, start: int, end: int) -> bool:
    """Whether nothing marks a word as a name: no capital within a sentence, sign, quotation or cue."""
    before = text[:start]
    if text[end : end + 2] in ("'s", "’s"):
        return False
    if before[-1:] in ("@", "#", '"', "`", "'", "“", "‘"):
        return False
    lead = before.rstrip()
    begins = not lead or lead[-1] in ".!?:" or "\n" in before[len(lead) :]  # a sentence
    if not begins and not text[start:end].islower():
        return False
    last = _LAST_WORD.search(lead[-40:])
    if last and last[0].lower() in CUES_BEFORE:
        return False
    following = _NEXT_WORD.match(text, end)
    return not (following and following[1].lower() in CUES_AFTER)


def _stands_alone(text: str, start: int, end: int) -> bool:
    first, last = text[start], text[end - 1]
    before = text[start - 1 : start]
    if before in ("@", "#"):  # "#general", "@bob"
        before = text[start - 2 : start - 1] if start > 1 else ""
        start -= 1
    if before == "'":
        if start > 1 and text[start - 2].isalnum():
            return False  # O'Neil
    elif before and not _OPEN.match(before):
        return False
    if end < len(text) and not _CLOSE.match(text, end):
        return False
    # In a script without spaces nothing shows where a name ends.
    if not first.isascii() and before.isalnum() and not before.isascii():
        return False
    after = text[end : end + 1]
    if not last.isascii() and after.isalnum() and not after.isascii():
        return False
    # A group of a longer number ("1,200", "DE89 3704 0044") is no value of its own.
    if last.isdigit() and re.match(r"[ ,.-]\d", text[end : end + 2]):
        return False
    return not (first.isdigit() and re.fullmatch(r"\d[ ,.-]", text[max(0, start - 2) : start]))


def says(text: str, statement: str) -> bool:
    """Whether a text gives a whole statement of SQL or a command.

    Part of a statement is another one (``DELETE FROM t WHERE id = 5`` without its end), so only what is
    set apart counts: the whole text, a paragraph or what follows its colon, a code block, a quotation.
    """
    wanted = _bare(statement)
    return len(wanted) > 2 and any(_bare(unit) == wanted for unit in _units(text))


def _bare(statement: str) -> str:
    return statement.strip().rstrip(";").rstrip()


def _units(text: str) -> Iterator[str]:
    yield text
    for found in _FENCED.finditer(text):
        yield found[1]
    for paragraph in _BLANK.split(_FENCED.sub("\n\n", text)):
        yield paragraph
        lead = _AFTER_COLON.match(paragraph)
        if lead:
            yield paragraph[lead.end() :]
    for found in _QUOTED.finditer(text):
        yield found[found.lastindex or 0]
