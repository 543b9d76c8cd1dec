"""Text of an untrusted result, cut into the words that its prints are made of.

This side may be generous: a word too many makes a value ``untrusted`` that was ``none``, and neither is
trusted. So everything is folded (compatibility forms, case, invisible characters), every token is kept at
three depths, and what is encoded is decoded and cut again:

    depth    delimiters besides white space and ``"'`<>()[]{},;|\\``    what comes out
    coarse   none                                                     addresses, URLs, paths
    middle   ``: = & ? # *``                                          ``host/path``, values of a query
    fine     ``@ / + % ~`` besides                                    hosts, folders, local parts

Work is linear in the text, with C-speed steps: ``bytes.translate``, ``split``, ``set``.
"""

from __future__ import annotations

import binascii
import html
import re
import unicodedata
from itertools import repeat
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.sessions.provenance.lists import STOP

MAX_TEXT: Final = 256 * 1024  # characters of one text; what is beyond is a flood
MAX_LAYERS: Final = 3
MAX_CODED: Final = 400  # blobs tried per text and layer

_SPACE: Final = bytes(range(33)) + b"\x7f"


def _spaced(characters: bytes) -> bytes:
    found = _SPACE + characters
    return bytes.maketrans(found, b" " * len(found))


_OUTER: Final = b"\"'`<>()[]{},;|\\"
COARSE: Final = _spaced(_OUTER)
_MIDDLE: Final = _spaced(_OUTER + b":=&?#*")
FINE: Final = _spaced(_OUTER + b":=&?#*@/+%~")
_ASCII_ONLY: Final = bytes.maketrans(bytes(range(128, 256)), b" " * 128)
EDGE: Final = b"!#$&*+-./:=?@\\^_~"

INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\U000e0000-\U000e0fff]+"
)
_WIDE_OUTER: Final = re.compile("[。、「」『』《》〈〉【】“”‘’„‚«»‹›…–—•·¿¡]")
_SLICE: Final = 8_192
_RUN: Final = re.compile(r"[^\x00-\x7f]{128}")
_ESCAPE: Final = re.compile(r"\\(?:u00|x)([0-9a-fA-F]{2})")
_ESCAPED_SPACE: Final = re.compile(r"\\[nrtbfv]")
_HEX: Final = re.compile(rb"(?:[0-9a-fA-F]{2}){6,}").fullmatch
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{11,}={0,2}").fullmatch
# Base64 of ASCII text shows in which characters come first, second and third of four. Other text is tried
# only when it is long: the most tokens of that alphabet are words and numbers.
_CODED: Final = re.compile(
    rb"(?:[C-Za-f][A-HQ-Xg-nw-z0-3][ABEFIJMNQRUVYZcdghklopstwx014589][A-Za-z0-9+/_-]){2,}"
    rb"[A-Za-z0-9+/_-]{0,3}={0,2}"
    rb"|(?:[0-9a-fA-F]{2}){6,}"
).fullmatch
_QUOTED: Final = re.compile(rb"=([0-9A-F]{2})")
# What all encodings below need: an escape, or a token of more than ten letters and digits.
_MAY_HIDE: Final = re.compile(rb"[\\&%=]|[A-Za-z0-9+/_-]{11}").search
_SHORT_TEXT: Final = 4_096  # characters; in a longer one there nearly always is some
_PHONE: Final = re.compile(rb"[+(]\d[\d ().-]{6,24}\d")
_LINE: Final = 60  # characters of a line of wrapped base64
_WRAPPED: Final = re.compile(
    rb"^(?:[A-Za-z0-9+/]{60,76}\r?\n){1,4000}[A-Za-z0-9+/]{0,76}={0,2}", re.MULTILINE
)
_DIGITS: Final = bytes(range(48)) + bytes(range(58, 256))  # what ``translate`` takes out to leave digits
_SHORT: Final = b"""
    a b c d e f g h i j k l m n o p q r s t u v w x y z
    am an as at be by do go he if in is it me my no of on or so to up us we id ok re cc pm hi
"""
_NOTHING: Final = (
    STOP
    | {b"", *_SHORT.split()}
    | {b"%0*d" % (width, number) for width in (1, 2, 3) for number in range(10**width)}
)
_MARKS: Final = bytes(code for code in range(128) if not chr(code).isalnum())
_PRINTABLE: Final = bytes(range(32, 127)) + b"\t\n\r"
_URLSAFE: Final = bytes.maketrans(b"-_", b"+/")


def plain(text: str) -> bytes:
    """Fold all but case. Linear also for long runs of combining marks, whose ordering is quadratic."""
    if text.isascii():
        return text.encode()
    if len(text) > 128:
        text = _RUN.sub(lambda run: run[0] + " ", text)
    text = INVISIBLE.sub("", text)
    if len(text) <= _SLICE:
        folded = unicodedata.normalize("NFKC", text)
    else:
        slices: list[str] = []
        size = 0
        for start in range(0, len(text), _SLICE):
            slices.append(unicodedata.normalize("NFKC", text[start : start + _SLICE]))
            size += len(slices[-1])
            if size > MAX_TEXT:  # some characters unfold to eighteen
                break
        folded = "".join(slices)
    return _WIDE_OUTER.sub(" ", folded).encode("utf-8", "replace")


def phrase(data: bytes) -> bytes:
    """What several words in a row are known by: without case, punctuation around them, or line breaks."""
    return b"=" + b" ".join(data.translate(COARSE).split()).lower()


def squeezed(data: bytes) -> bytes:
    """Letters and digits alone, without case."""
    return data.translate(None, _MARKS).lower()


def digits(data: bytes) -> bytes:
    return data.translate(None, _DIGITS)


def cut(data: bytes) -> set[bytes]:
    """Every token of a folded text at each depth, as it stands there."""
    found = set(data.translate(COARSE).split())
    compound = [token for token in found if not token.isalnum()]
    if not compound:
        return found
    joined = b" ".join(compound)
    found.difference_update(compound)
    pieces = compound + joined.translate(_MIDDLE).split() + joined.translate(FINE).split()
    if not joined.isascii():
        # "发给bob@x.com吧": scripts without spaces, and whatever else stands beside an ASCII value
        joined = joined.translate(_ASCII_ONLY)
        pieces += joined.translate(COARSE).split() + joined.translate(FINE).split()
    found.update(map(bytes.strip, pieces, repeat(EDGE)))
    return found


def known(tokens: set[bytes]) -> set[bytes]:
    """Without those that prove nothing. What is shorter than three may stay: nobody asks for it."""
    return tokens - _NOTHING


def tells(token: bytes) -> bool:
    """Whether a token can prove something."""
    return len(token) > 2 and token not in _NOTHING


def words(text: str) -> tuple[set[bytes], bool]:
    """Tokens of a text and of what is encoded in it, and whether there was more than is looked at."""
    flood = len(text) > MAX_TEXT
    data = plain(text[:MAX_TEXT])
    if len(data) > MAX_TEXT:
        flood, data = True, data[:MAX_TEXT]
    found = known(cut(data.lower()))
    if b"+" in data or b"(" in data:
        found.update(map(digits, _PHONE.findall(data)))
    below, more = deeper(data)
    return (found | below if below else found), flood or more


def deeper(data: bytes) -> tuple[set[bytes], bool]:
    """Tokens of what is encoded in a folded text, and whether there was more than is looked at."""
    found: set[bytes] = set()
    if len(data) < _SHORT_TEXT and not _MAY_HIDE(data):
        return found, False
    flood = False
    room = MAX_TEXT
    for _ in range(MAX_LAYERS):
        decoded, more = _decoded(data)
        flood |= more
        if not decoded:
            break
        data = b"\n".join(decoded)
        if len(data) > room:
            flood, data = True, data[:room]
        room -= len(data)
        found |= known(cut(data.lower()))
        if b"+" in data or b"(" in data:
            found.update(map(digits, _PHONE.findall(data)))
    return found, flood


def _decoded(data: bytes) -> tuple[list[bytes], bool]:
    """Texts that are one decoding away, and whether some were not tried."""
    out: list[bytes] = []
    if b"\\" in data or b"&#" in data:
        out += _unescaped(data)
    coarse = data.translate(COARSE).split()
    long = [token for token in coarse if len(token) > 10]
    if long:
        long += [token for token in b" ".join(long).translate(_MIDDLE).split() if len(token) > 10]
    coded = set(filter(_CODED, set(long)))
    very = [token for token in long if len(token) > 23]
    if very:
        coded.update([token for token in very if _BASE64(token) and not token.islower()])
        if b"\n" in data and any(len(token) >= _LINE for token in very):
            coded.update([run.translate(None, b"\r\n") for run in _WRAPPED.findall(data)])
    if b"%" in data:
        coded.update([token for token in coarse if b"%" in token])
    if b"=" in data:
        coded.update([token for token in coarse if b"=" in token and _QUOTED.search(token)])
    more = len(coded) > MAX_CODED
    for token in sorted(coded)[:MAX_CODED]:
        out += decodings(token)
    return out, more


def _unescaped(data: bytes) -> list[bytes]:
    """Escapes of JSON and HTML that a reader sees through; bounded, since each costs a call."""
    text = data[:65536].decode("utf-8", "replace")
    out = []
    if "\\" in text:
        text = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), _ESCAPED_SPACE.sub(" ", text))
        out.append(text.encode("utf-8", "replace"))
    if "&#" in text:
        out.append(html.unescape(text[:16384]).encode("utf-8", "replace"))
    return out


def decodings(token: bytes) -> list[bytes]:
    """What one blob says when it is percent, quoted-printable, hexadecimal or base64 text."""
    out = []
    if b"%" in token:
        plainer = unquote_to_bytes(token)
        if plainer != token:
            out.append(plainer)
    if b"=" in token and _QUOTED.search(token):
        out.append(unquote_to_bytes(_QUOTED.sub(rb"%\1", token)))
    if _HEX(token):
        out.append(bytes.fromhex(token.decode()))
    if _BASE64(token):
        bare = token.rstrip(b"=")
        if len(bare) % 4 != 1:
            out.append(binascii.a2b_base64(bare.translate(_URLSAFE) + b"=" * (-len(bare) % 4)))
    return [text for text in out if text and _readable(text)]


def _readable(text: bytes) -> bool:
    if text.isascii():
        return not text.translate(None, _PRINTABLE)
    if text.translate(None, _PRINTABLE).isascii():
        return False
    try:
        return text.decode().isprintable()
    except UnicodeDecodeError:
        return False
