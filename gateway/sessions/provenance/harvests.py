"""What one tool result teaches: prints of its values, apart for what is trusted and what is not.

Pure: bytes in, a small value out, which is written in the journal and folded into ``Prints``. It never
raises for any bytes whatever; a result it cannot read to its end makes a *flood*: from then on every value
the session cannot trust is taken for untrusted.

What a pattern points into: ``structuredContent`` (and below its only key ``result``, where servers put values
that are no objects), and the JSON in the text of the only content block. With several blocks one of them may
be text an outsider wrote, in the shape of the others; so there patterns name the block,
``/content/*/text/contacts/*/email``. A string inside the JSON that is itself JSON is text of its field, never
a place for patterns.

What the call itself said is no news: a value of the arguments that comes back in a trusted field (the echo
of a search, a record just created) is not learned as trusted.
"""

from __future__ import annotations

import binascii
import re
from array import array
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Final, Literal
from zlib import crc32

import msgspec
import orjson

from gateway.model import Json
from gateway.sessions.provenance import forms, pointers, words

MAX_TRUSTED: Final = 256  # prints of 8 bytes
MAX_EXACT: Final = 1_800  # prints of 3 bytes; more become one bitmap
MAX_NODES: Final = 30_000
MAX_RESULT: Final = 4 * 1024 * 1024  # bytes; beyond, only the beginning is looked at, as text
MAX_PHRASES: Final = 1_000  # fields remembered as a whole; of others, their words
MAX_TOKENS: Final = 20_000  # of trusted text, looked at for values
BITMAP: Final = 8_192  # bytes, one bit a print
_BITS: Final = BITMAP * 8 - 1
_CROWDED: Final = 64  # trusted prints kept beside a bitmap
PHRASE: Final = 120  # characters of a field that is remembered as a whole
_PARTED: Final = re.compile(r"[ \n,;<(]").search  # text of several tokens


class Harvest(msgspec.Struct, frozen=True, array_like=True):
    """Prints of one result, at most 12 KB as JSON."""

    target: str  # "upstream/tool" they come from
    trusted: bytes = b""  # keyed 64-bit hashes of forms
    untrusted: bytes = b""  # 24-bit hashes of tokens
    bitmap: bytes = b""  # instead of those, when there are many
    flood: bool = False  # there was more than could be looked at


Integrity = Literal["trusted", "untrusted"]


def harvest(
    result_json: bytes,
    target: str,
    *,
    integrity: Integrity = "untrusted",
    trusted_fields: Iterable[str] = (),
    untrusted_fields: Iterable[str] = (),
    args: Mapping[str, Json] | None = None,
    key: bytes = b"",
) -> Harvest:
    """Prints of a result as it is given to the agent: the bytes of an MCP ``result``, or any JSON.

    ``args`` are those of the call that brought it; ``key`` is the session's, the one given to ``Prints``. An
    untrusted field wins over a trusted one that contains it or lies in it.
    """
    try:
        split = _split(result_json, integrity, tuple(trusted_fields), tuple(untrusted_fields))
        tokens, flood = _tokens(split)
        trusted = _trusted(split.trusted, args, short_key(key)) if split.trusted else b""
    except Exception:  # noqa: BLE001 - whatever a hostile result does, it must not go by unmarked
        return Harvest(target, flood=True)
    if len(tokens) <= MAX_EXACT:
        prints = array("I", sorted(map(crc32, tokens)))  # sets have another order in every process
        return Harvest(target, trusted, packed(prints), flood=flood)
    bitmap = bytes(spread(map(crc32, tokens), bytearray(BITMAP)))
    return Harvest(target, trusted[: _CROWDED * 8], bitmap=bitmap, flood=flood)


def packed(prints: array[int]) -> bytes:
    raw = prints.tobytes()
    out = bytearray(3 * len(prints))
    out[0::3], out[1::3], out[2::3] = raw[0::4], raw[1::4], raw[2::4]
    return bytes(out)


def unpacked(data: bytes | bytearray) -> array[int]:
    raw = bytearray(len(data) // 3 * 4)
    raw[0::4], raw[1::4], raw[2::4] = data[0::3], data[1::3], data[2::3]
    prints = array("I")
    prints.frombytes(bytes(raw))
    return prints


def lowest(low: bytes | bytearray, middle: bytes | bytearray) -> array[int]:
    """The lowest 16 bits of prints whose bytes are kept apart."""
    raw = bytearray(2 * len(low))
    raw[0::2], raw[1::2] = low, middle
    prints = array("H")
    prints.frombytes(bytes(raw))
    return prints


def spread(prints: Iterable[int], bitmap: bytearray) -> bytearray:
    """Set the bit of each print, which is its lowest 16 bits."""
    for number in prints:
        bitmap[(number & _BITS) >> 3] |= 1 << (number & 7)
    return bitmap


def short_key(key: bytes) -> bytes:
    """A key that the hash takes, of whatever a session is known by."""
    return key if len(key) <= 64 else blake2b(key).digest()


def form_print(form: bytes, key: bytes) -> bytes:
    """Keyed with the session, so that nobody can look for a colliding value beforehand."""
    return blake2b(form, digest_size=8, key=key).digest()


def form_prints(found: Iterable[bytes], key: bytes) -> bytes:
    """``form_print`` of each; to copy a keyed hash is cheaper than to make one."""
    keyed = blake2b(digest_size=8, key=key)
    prints = []
    for form in found:
        one = keyed.copy()
        one.update(form)
        prints.append(one.digest())
    return b"".join(prints)


class _Split:
    __slots__ = ("flood", "texts", "trusted", "untrusted")

    def __init__(self) -> None:
        self.trusted: list[Json] = []  # trees whose leaves are trusted
        self.untrusted: list[Json] = []
        self.texts: list[str] = []  # untrusted free text
        self.flood = False


def _split(
    result_json: bytes,
    integrity: Integrity,
    trusted_fields: tuple[str, ...],
    untrusted_fields: tuple[str, ...],
) -> _Split:
    split = _Split()
    try:
        if len(result_json) > MAX_RESULT:
            raise orjson.JSONDecodeError("too large", "", 0)
        result = orjson.loads(result_json)
    except orjson.JSONDecodeError:
        # Not what a model would be given as JSON either. Nothing of it is trusted, all of it is text.
        split.texts.append(result_json[: words.MAX_TEXT].decode("utf-8", "replace"))
        split.flood = True
        return split
    parts = _Parts(result)
    for pattern in untrusted_fields:
        steps = pointers.steps(pattern)
        if not steps:  # all of it
            integrity, trusted_fields = "untrusted", ()
        for root in parts.every_root():
            split.untrusted += pointers.take(root, steps)
            if steps[:1] == ("*",):  # an element of a list that came as a block of its own
                split.untrusted += pointers.take(root, steps[1:])
    if integrity == "trusted":
        split.trusted += parts.structured
        # Where fields are told apart, what has no fields cannot be: it may be the very text they hold.
        (split.untrusted if untrusted_fields else split.trusted).extend(parts.loose)
    else:
        for pattern in trusted_fields:
            for root, steps in parts.roots(pattern):
                split.trusted += pointers.take(root, steps)
        split.untrusted += parts.structured
        split.untrusted += parts.loose
    return split


class _Parts:
    """A result taken apart: JSON that has fields, and loose text that has none."""

    def __init__(self, result: Json) -> None:
        self.result = result
        self.structured: list[Json] = []
        self.loose: list[Json] = []
        self._bare: list[Json] = []  # where patterns without a place begin
        self._several = False
        if type(result) is not dict or not ("content" in result or "structuredContent" in result):
            self.structured.append(result)
            self._bare.append(result)
            return
        structured = result.get("structuredContent")
        if structured is not None:
            self.structured.append(structured)
            self._bare.append(structured)
            if type(structured) is dict and len(structured) == 1 and "result" in structured:
                self._bare.append(structured["result"])
        blocks = result.get("content")
        blocks = blocks if type(blocks) is list else [blocks]
        self._several = len(blocks) > 1
        for block in blocks:
            self._block(block, structured)
        for name, value in result.items():
            if name not in ("content", "structuredContent") and type(value) in (dict, list, str):
                self.loose.append(value)

    def _block(self, block: Json, structured: Json) -> None:
        if type(block) is not dict:
            self.loose.append(block)
            return
        text = block.get("text")
        if block.get("type") == "text" and type(text) is str:
            value = _json(text)
            if value is None:
                self.loose.append(text)
            else:
                block["text"] = value
                if not self._several:
                    self._bare.append(value)
                if value != structured:
                    self.structured.append(value)
            if len(block) > 2:
                self.loose.append(
                    {name: value for name, value in block.items() if name not in ("type", "text")}
                )
            return
        if block.get("type") in ("image", "audio"):
            self.loose.append({name: value for name, value in block.items() if name != "data"})
            return
        resource = block.get("resource")
        if type(resource) is dict and type(resource.get("blob")) is str:
            resource["blob"] = _blob(resource["blob"])
        self.loose.append(block)

    def roots(self, pattern: str) -> list[tuple[Json, pointers.Steps]]:
        """Where a trusted pattern begins, and the steps from there."""
        steps = pointers.steps(pattern)
        if steps[:1] == ("structuredContent",):
            return (
                [(self.result, steps)]
                if type(self.result) is dict and "structuredContent" in self.result
                else []
            )
        if self._several and "structuredContent" not in self.result and steps[:1] == ("content",):
            return [(self.result, steps)] if steps[2:3] == ("text",) and len(steps) > 3 else []
        return [(root, steps) for root in self._bare]

    def every_root(self) -> list[Json]:
        return [self.result, *self.structured, *self._bare]


def _json(text: str) -> Json:
    """An object or a list written as text; anything else is text."""
    start = text[:64].lstrip()[:1]
    if start not in ("{", "["):
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _blob(data: str) -> str:
    """The text of an embedded resource that came as base64; what is no text cannot hold an address."""
    try:
        return binascii.a2b_base64(data[: words.MAX_TEXT + words.MAX_TEXT // 2]).decode()
    except ValueError:
        return ""


# --------------------------------------------------------------------------------------- untrusted


def _tokens(split: _Split) -> tuple[set[bytes], bool]:
    if not split.untrusted and not split.texts:
        return set(), split.flood
    strings, complete = _leaves(split.untrusted)
    strings += split.texts
    found, flood = words.words("\n".join(strings))
    phrases = [text for text in strings if len(text) <= PHRASE and " " in text][:MAX_PHRASES]
    found.update([words.phrase(text.encode() if text.isascii() else words.plain(text)) for text in phrases])
    found.discard(b"")
    return found, flood or split.flood or not complete


def _leaves(trees: list[Json]) -> tuple[list[str], bool]:
    """Every string and telling number below some values, and whether that is all of them."""
    out: list[str] = []
    stack = list(trees)
    left = MAX_NODES
    while stack and left > 0:
        left -= 1
        item = stack.pop()
        kind = type(item)
        if kind is str:
            out.append(item)
        elif kind is dict:
            for name, value in item.items():
                if not name.isidentifier():
                    out.append(name)
                if type(value) is str:  # the most are, and need no turn on the stack
                    out.append(value)
                    left -= 1
                else:
                    stack.append(value)
        elif kind is list:
            if len(item) > 64 and set(map(type, item)) <= {int, float}:
                out.append(orjson.dumps(item).decode())
            else:
                stack += item
        elif kind is float or (kind is int and not -1000 < item < 1000):
            out.append(str(item))
    return out, not stack


# ----------------------------------------------------------------------------------------- trusted


def _trusted(trees: list[Json], args: Mapping[str, Json] | None, key: bytes) -> bytes:
    strings, complete = _leaves(trees)
    if not complete:
        strings = strings[: MAX_TRUSTED * 8]
    left = MAX_TOKENS
    shaped: dict[bytes, None] = {}
    other: dict[bytes, None] = {}
    for text in strings:
        if left <= 0 or len(shaped) + len(other) >= 4 * MAX_TRUSTED:
            break
        for form in forms.known_forms(text, named=False):
            (other if form[:2] == b"t:" else shaped)[form] = None
        if _PARTED(text):
            tokens = text[: words.MAX_TEXT].split()[:left]
            left -= len(tokens)
            for token in tokens:
                if not token.isalpha():  # words prove nothing
                    for form in _part(token.strip(".,:;!?()[]{}<>\"'`*")):
                        shaped[form] = None
    found = [*shaped, *other]
    if args and found:
        found = _Echo(args).without(found)
    return form_prints(found[:MAX_TRUSTED], key)


def _part(token: str) -> Iterable[bytes]:
    """Of running text only what has a shape of its own, or a digit; words prove nothing."""
    if len(token) < 4 and token.isdigit() and token.isascii():
        return ()
    if "@" in token or "://" in token or token[:1] in ("/", "~") or any(map(str.isdigit, token)):
        return forms.known_forms(token, named=False)
    return ()


class _Echo:
    """What a call said itself, so that it can be told from what its result says."""

    def __init__(self, args: Mapping[str, Json]) -> None:
        told, complete = _leaves([args])
        text = "\n".join(told)
        self._tokens, flood = words.words(text)
        self._lost = flood or not complete
        self._squeezed = b"\n".join([words.squeezed(words.plain(text)), *map(words.squeezed, self._tokens)])

    def without(self, found: list[bytes]) -> list[bytes]:
        """Forms of values that the arguments hold in no spelling, neither in one piece nor in several."""
        if self._lost:
            return []  # what cannot be told from an echo is not learned
        whole, tokens = self._squeezed, self._tokens
        new = []
        for form in found:
            value = form[2:].lower()
            bare = words.squeezed(value)
            if not bare or bare in whole:
                continue
            if tokens:
                pieces = value.translate(words.FINE).split()
                if not tokens.isdisjoint(pieces):  # seldom
                    telling = words.known(set(pieces))
                    if telling and telling <= tokens:
                        continue
            new.append(form)
        return new
