"""What untrusted results of one session said: the newest prints and where they came from, older ones as bits.

Nothing is ever forgotten. A print that leaves the log sets its bit, and a bit stands for every value that
shares it: when there are many, more values read as seen, never fewer.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from typing import Annotated, Any, Final
from zlib import crc32

import msgspec

from gateway.sessions.provenance import forms, words
from gateway.sessions.provenance.harvests import BITMAP, PHRASE, lowest, spread, unpacked
from gateway.sessions.provenance.known import Match
from gateway.sessions.provenance.lists import Kind

NOWHERE: Final = 255  # a target that is not known any more, or for which there was no room
_LOG: Final = 1_024  # recent untrusted prints, of which it is known where they come from
_RESULTS: Final = 256  # that are told apart in the log
_WIDE: Final = 8  # targets remembered of older ones


class Seen:
    __slots__ = ("_bitmap", "_ends", "_floods", "_log", "_whose", "_wide")

    def __init__(self) -> None:
        # The three bytes of each print, apart: a search for one byte is forty times as fast as one for three,
        # and leaves four candidates in a thousand.
        self._log = (bytearray(), bytearray(), bytearray())
        self._ends = array("H")  # where in the log the prints of each result end
        self._whose = bytearray()  # and its target
        self._bitmap: bytearray | None = None  # older prints
        self._wide: list[int] = []  # targets in the bitmap
        self._floods: list[int] = []  # targets whose results were not read to the end

    def add(self, prints: bytes, target: int) -> None:
        """Take in packed prints of a result."""
        count = len(prints) // 3
        low, middle, high = self._log
        if len(low) + count > _LOG or len(self._whose) >= _RESULTS:
            spread(set(lowest(low, middle)), self._bits())
            self._widen(self._whose)
            for plane in self._log:
                plane.clear()
            self._ends = array("H")
            self._whose.clear()
        if count > _LOG // 2:
            spread(unpacked(prints), self._bits())
            self._widen((target,))
            return
        low += prints[0::3]
        middle += prints[1::3]
        high += prints[2::3]
        if self._whose and self._whose[-1] == target:
            self._ends[-1] = len(low)
        else:
            self._ends.append(len(low))
            self._whose.append(target)

    def merge(self, bitmap: bytes, target: int) -> None:
        """Take in a result that had so many prints that they came as bits."""
        mine = int.from_bytes(self._bits(), "little") | int.from_bytes(bitmap[:BITMAP], "little")
        self._bitmap = bytearray(mine.to_bytes(BITMAP, "little"))
        self._widen((target,))

    def flood(self, target: int) -> None:
        """A result was not read to its end."""
        if target not in self._floods and len(self._floods) < _WIDE:
            self._floods.append(target)

    def _bits(self) -> bytearray:
        if self._bitmap is None:
            self._bitmap = bytearray(BITMAP)
        return self._bitmap

    def _widen(self, targets: Iterable[int]) -> None:
        for target in targets:
            if target not in self._wide and len(self._wide) < _WIDE:
                self._wide.append(target)

    def suspect(self, value: str, kind: Kind) -> tuple[Match, list[int]] | None:
        """How a value hangs together with untrusted results, and with those of which targets."""
        if not self._whose and self._bitmap is None and not self._floods:
            return None
        data = words.plain(value[: words.MAX_TEXT])
        found = self.whole(data)
        if found is not None:
            return "exact", found
        low = data.lower()
        tokens = words.known(words.cut(low))
        tokens.discard(low)
        found = (self._pieces(tokens, kind) if tokens else None) or self._spellings(value, kind)
        flood = False
        if found is None:
            more, flood = words.deeper(data)
            found = self._pieces(more - tokens, kind) if more else None
        if found is not None:
            return "derived", found
        if self._floods or flood:
            return "none", self._floods
        return None

    def whole(self, data: bytes) -> list[int] | None:
        """Targets whose results held a value as it is, as one token or as one short field."""
        coarse = data.translate(words.COARSE).split()
        if len(coarse) > 1:
            return self._find(words.phrase(data)) if len(data) <= 4 * PHRASE else None
        for token in coarse:
            bare = token.strip(words.EDGE).lower()
            if words.tells(bare):
                return self._find(bare)
        return None

    def _pieces(self, tokens: set[bytes], kind: Kind) -> list[int] | None:
        for token in sorted(filter(_telling, tokens)):
            found = self._find(token)
            if found is not None:
                return found
        # Words alone say nothing one by one; all of them together are likely a name that was given there.
        if kind in ("text", "sql", "command") or len(tokens) < 2 or len(tokens) > 12:
            return None
        last = None
        for token in sorted(tokens):
            last = self._find(token)
            if last is None:
                return None
        return last

    def _spellings(self, value: str, kind: Kind) -> list[int] | None:
        """Numbers are grouped in many ways in a text; an argument is not."""
        if kind in ("iban", "recipient", "id") and (form := forms.iban(value)):
            bare = form[2:].lower()
            groups = [bare[at : at + 4] for at in range(0, len(bare), 4)]
            if len(bare) != len(value) and (found := self._find(bare)) is not None:
                return found
            if (found := self._find(b"-".join(groups))) is not None:
                return found
            whole = [group for group in groups if len(group) == 4]
            if all(self._find(group) is not None for group in whole):
                return self._find(whole[-1])
        number = b""
        if value[-1:].isdigit() and kind in ("recipient", "iban", "id", "text"):
            number = words.digits(words.plain(value[:64]))
        if 6 < len(number) < 17:
            spelt_ways = [number]
            if len(number) == 10:
                parts = (number[:3], number[3:6], number[6:])
                spelt_ways += [b"-".join(parts), b".".join(parts)]
            for spelt in spelt_ways:
                if (found := self._find(spelt)) is not None:
                    return found
        if kind == "text" and (form := forms.number(value)):
            plain = form[2:].decode()
            ways = [plain]
            if len(plain) < 16:
                ways += [f"{float(plain):.2f}", f"{float(plain):,.2f}".rpartition(",")[2]]
            for way in ways:
                if len(way) > 3 and (found := self._find(way.encode())) is not None:
                    return found
        return None

    def _find(self, token: bytes) -> list[int] | None:
        """Targets whose results held a token; ``[255]`` when they are not known any more."""
        number = crc32(token)
        low, middle, high = self._log
        byte, second, third = number & 255, number >> 8 & 255, number >> 16 & 255
        hits: list[int] = []
        at = low.find(byte)
        while at >= 0:
            if middle[at] == second and high[at] == third:
                hits.append(self._whose[bisect_right(self._ends, at)])
                if len(hits) > 2:
                    break
            at = low.find(byte, at + 1)
        if not hits and self._bitmap is not None and self._bitmap[(number & 0xFFFF) >> 3] >> (number & 7) & 1:
            hits = list(self._wide) if 0 < len(self._wide) < 4 else [NOWHERE]
        return hits or None

    def encode(self) -> list[Any]:
        return [
            b"".join(self._log), list(self._ends), bytes(self._whose),
            None if self._bitmap is None else bytes(self._bitmap), list(self._wide), list(self._floods),
        ]  # fmt: skip

    @classmethod
    def decode(cls, kept: Kept) -> Seen:
        self = cls()
        size = len(kept.log) // 3
        low, middle, high = self._log
        low += kept.log[:size]
        middle += kept.log[size : 2 * size]
        high += kept.log[2 * size :]
        self._ends = array("H", kept.ends)
        self._whose = bytearray(kept.whose)
        self._bitmap = None if kept.bitmap is None else bytearray(kept.bitmap)
        self._wide = kept.wide
        self._floods = kept.floods
        return self


class Kept(msgspec.Struct, array_like=True):
    """What ``Seen.encode`` makes."""

    log: bytes
    ends: list[Annotated[int, msgspec.Meta(ge=0, le=_LOG)]]
    whose: bytes
    bitmap: bytes | None
    wide: list[int]
    floods: list[int]


def _telling(token: bytes) -> bool:
    """Whether a piece of a value is rare enough to say where the whole came from."""
    if token.isalpha() or len(token) < 4:
        return False
    if len(token) > 5:
        return True
    return bool(words.digits(token)) and not (token.isdigit() and token[:2] in (b"19", b"20"))
