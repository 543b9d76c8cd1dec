"""What one session knows of values, and where a value came from.

    learn_request   the user's words, kept as text                    source ``user``
    trust           values of the mandate                             source ``mandate``
    apply           prints of a result                                source ``trusted`` or ``untrusted``

A fold: the same steps give the same state in any process, and ``decode(encode(p))`` behaves like ``p``. It is
at most 40 KB however long the session runs. What is full fails closed: more trusted values are not trusted,
more untrusted prints share bits until every value that is not trusted reads ``untrusted``.

Order does not matter to ``source`` as long as nothing is full; it may to ``targets``.
"""

from __future__ import annotations

import unicodedata
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, Literal, Self
from zlib import crc32

import msgspec
import orjson

from gateway.model import Json
from gateway.sessions.provenance import forms, request, words
from gateway.sessions.provenance.harvests import BITMAP, PHRASE, Harvest, form_print, lowest, spread, unpacked
from gateway.sessions.provenance.lists import STOP, Kind

Source = Literal["user", "mandate", "trusted", "untrusted", "none"]
Match = Literal["exact", "substring", "derived", "none"]

MAX_REQUEST: Final = 8_000  # bytes of the user's words as JSON
MAX_KNOWN: Final = 768  # trusted values; a quarter of them is kept for the user and the mandate
MAX_TARGETS: Final = 32
_NAME: Final = 96  # characters of a target
MAX_ELEMENTS: Final = 256  # of a list that is traced
_NAMED: Final = MAX_KNOWN // 4
_LOG: Final = 1_024  # recent untrusted prints, of which it is known where they come from
_MARKS: Final = 256  # results that are told apart in the log
_WIDE: Final = 8  # targets remembered of older ones
_NOWHERE: Final = 255  # index of a target for which there is no room

_USER: Final = 0
_MANDATE: Final = 1
_WORST: Final[Sequence[Source]] = ("user", "mandate", "trusted", "none", "untrusted")
_LOOSEST: Final[Sequence[Match]] = ("exact", "substring", "derived", "none")


class Traced(msgspec.Struct, frozen=True):
    """Where a value came from; at most three targets, those that vouch for it first."""

    source: Source
    match: Match
    targets: tuple[str, ...] = ()

    @property
    def trusted(self) -> bool:
        return self.source in ("user", "mandate", "trusted")


_UNKNOWN: Final = Traced("none", "none")


class Prints:
    """``key`` is the session's, the one given to ``harvest``."""

    __slots__ = ("_bitmap", "_ends", "_floods", "_from", "_key", "_known", "_log", "_named", "_request",
                 "_targets", "_whose", "_wide")  # fmt: skip

    def __init__(self, key: bytes = b"") -> None:
        self._key = key
        self._request = b""  # the user's words, turns with NUL between them
        self._known = bytearray()  # 8 bytes a trusted form
        self._from = bytearray()  # where each comes from: user, mandate, or two more than a target's index
        self._named = 0  # how many of them the user and the mandate named
        self._targets: list[str] = []
        self._log = (bytearray(), bytearray(), bytearray())  # the three bytes of each print, apart: a search
        # for one byte is forty times as fast as one for three, and leaves four candidates in a thousand
        self._ends = array("H")  # where in the log the prints of each result end
        self._whose = bytearray()  # and its target
        self._bitmap: bytearray | None = None  # older prints
        self._wide: list[int] = []  # targets in the bitmap
        self._floods: list[int] = []  # targets whose results were not read to the end

    @property
    def key(self) -> bytes:
        return self._key

    # ------------------------------------------------------------------------------------ learning

    def learn_request(self, text: str) -> bool:
        """Take in the user's own words. ``False``: there was no room for all, and the rest is not trusted."""
        clean = text[: 2 * MAX_REQUEST].encode("utf-8", "replace").decode().replace("\x00", " ")
        clean = unicodedata.normalize("NFC", clean)
        room = MAX_REQUEST - len(orjson.dumps(self._request.decode()))
        kept = clean.encode()[: max(0, room)].decode("utf-8", "ignore")
        while kept and len(orjson.dumps(kept)) > room:  # escapes of JSON take room too
            kept = kept[: len(kept) * 3 // 4]
        whole = len(text) <= 2 * MAX_REQUEST and kept == clean
        if not whole:  # a value cut in two would be another value
            kept = kept[: max(kept.rfind(" "), kept.rfind("\n")) + 1]
        if kept:
            self._request += (b"\x00" if self._request else b"") + kept.encode()
            for form in request.named_forms(kept):
                if not form.startswith(b"t:"):
                    whole &= self._learn(form_print(form, self._key), _USER)
        return whole

    def trust(self, values: Iterable[str]) -> bool:
        """Take in the mandate's trusted values, each as a whole. ``False``: there was no room for all."""
        whole = True
        for value in values:
            for form in forms.known_forms(value, named=True):
                whole &= self._learn(form_print(form, self._key), _MANDATE)
        return whole

    def apply(self, harvest: Harvest) -> None:
        """Fold in one result."""
        if not (harvest.trusted or harvest.untrusted or harvest.bitmap or harvest.flood):
            return
        target = self._target(harvest.target)
        for start in range(0, len(harvest.trusted), 8):
            self._learn(harvest.trusted[start : start + 8], min(target + 2, _NOWHERE))
        if harvest.untrusted:
            self._log_prints(harvest.untrusted, target)
        if harvest.bitmap:
            mine = int.from_bytes(self._bits(), "little") | int.from_bytes(harvest.bitmap[:BITMAP], "little")
            self._bitmap = bytearray(mine.to_bytes(BITMAP, "little"))
            self._widen((target,))
        if harvest.flood and target not in self._floods and len(self._floods) < _WIDE:
            self._floods.append(target)

    def _learn(self, mark: bytes, source: int) -> bool:
        at = self._find(mark)
        if at >= 0:
            if source < self._from[at]:
                self._named += source <= _MANDATE < self._from[at]
                self._from[at] = source
            return True
        # Results must not take the room of what the user says later.
        if source <= _MANDATE:
            if len(self._from) >= MAX_KNOWN:
                return False
            self._named += 1
        elif len(self._from) - self._named >= MAX_KNOWN - _NAMED or len(self._from) >= MAX_KNOWN:
            return False
        self._known += mark
        self._from.append(source)
        return True

    def _log_prints(self, prints: bytes, target: int) -> None:
        count = len(prints) // 3
        low, middle, high = self._log
        if len(low) + count > _LOG or len(self._whose) >= _MARKS:
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

    def _bits(self) -> bytearray:
        if self._bitmap is None:
            self._bitmap = bytearray(BITMAP)
        return self._bitmap

    def _widen(self, targets: Iterable[int]) -> None:
        for target in targets:
            if target not in self._wide and len(self._wide) < _WIDE:
                self._wide.append(target)

    def _target(self, name: str) -> int:
        name = name[:_NAME]
        try:
            return self._targets.index(name)
        except ValueError:
            if len(self._targets) >= MAX_TARGETS:
                return _NOWHERE
            self._targets.append(name)
            return len(self._targets) - 1

    # ------------------------------------------------------------------------------------- tracing

    def trace(self, value: Json, kind: Kind) -> Traced:
        """Where a value came from.

        A list is as weak as its weakest element. There ``untrusted`` is weaker than ``none``: an invented
        value beside one of an attacker's must not hide it.
        """
        if type(value) is list:
            return self._weakest(value, kind)
        if type(value) is dict:
            return self._weakest(list(value.values()), kind)
        if type(value) is not str:
            if value is None or type(value) is bool:
                return _UNKNOWN
            value = str(value)
        if kind == "recipient" and value[:1] == "[" and (listed := _listed(value)):
            return self._weakest(listed, kind)
        vouched = self._vouched(value, kind)
        if vouched is not None:
            source, match, targets = vouched
            also = self._seen_whole(words.plain(value)) if self._whose or self._bitmap else None
            if also is not None:
                seen = self._names(also)
                targets = tuple(dict.fromkeys((*targets, *seen)))[:3] if targets else seen
            return Traced(source, match, targets)
        suspects = self._suspects(value, kind)
        if suspects is None:
            return _UNKNOWN
        return Traced("untrusted", suspects[0], suspects[1])

    def _weakest(self, values: list[Json], kind: Kind) -> Traced:
        if not values:
            return _UNKNOWN
        if len(values) > MAX_ELEMENTS:
            return Traced("untrusted", "none")
        traced = [self.trace(value, kind) for value in values]
        worst = max(traced, key=lambda one: _WORST.index(one.source))
        loosest = max((one.match for one in traced if one.source == worst.source), key=_LOOSEST.index)
        named = (
            name for one in sorted(traced, key=lambda one: -_WORST.index(one.source)) for name in one.targets
        )
        return Traced(worst.source, loosest, tuple(dict.fromkeys(named))[:3])

    # ------------------------------------------------------------------------------------- trusted

    def _vouched(self, value: str, kind: Kind) -> tuple[Source, Match, tuple[str, ...]] | None:
        if kind in ("sql", "command"):
            return self._statement(value.strip())
        text = value.strip(" ")
        if not 0 < len(text) <= forms.MAX_VALUE:
            return None
        if kind != "text" and not text.isprintable():  # line breaks end a header, and hide what follows
            return self._several(text, kind) if kind == "recipient" else None
        if "@" in text and (direct := forms.email(text)) is not None:
            return self._form(direct, text.lower())
        shape = forms.shape(text) if kind != "text" else None
        if shape == "recipient" or (kind == "recipient" and "@" in text[1:]):
            return self._recipient(text)
        if shape == "url" or "://" in text:
            return self._url(text)
        if shape == "iban":
            return self._form(forms.iban(text), text.lower())
        if (kind == "host" and ("." in text or ":" in text)) or (kind == "url" and text[0] != "/"):
            return self._form(forms.host(text), text.lower())
        if kind == "path" and ("/" in text or "\\" in text):
            return self._path(text)  # in a text, a space may be the end of a path or lie within it
        found = self._word(text, fold=kind == "recipient")
        if found is not None:
            return found
        if kind == "recipient":
            return self._form(forms.phone(text), text) or self._several(text, kind)
        if kind == "text":
            return self._form(forms.number(text), text)
        return None

    def _turns(self) -> list[str]:
        return self._request.decode().split("\x00") if self._request else []

    def _word(self, text: str, *, fold: bool) -> tuple[Source, Match, tuple[str, ...]] | None:
        """A word or a phrase: a whole trusted value, or tokens in a row of what the user said."""
        form = forms.text_form(text)
        if form is None or not forms.proves(text):
            return None
        bare = form[2:].lower()
        if bare in STOP:
            return None
        at = self._find(form_print(form, self._key)) if self._known else -1
        if at >= 0 and self._from[at] <= _MANDATE:
            return self._because(at, "exact")
        normal = form[2:].decode()
        for said in self._turns():
            if request.names(said, normal, person=fold):
                return "user", "exact" if said.strip() == normal else "substring", ()
            if fold and request.names(said, normal, fold=True, person=True):
                return "user", "derived", ()
        if at >= 0:
            return self._because(at, "exact")
        if fold and text[0] in "@#" and len(text) > 3:
            found = self._word(text[1:], fold=True)
            return found and (found[0], "derived", found[2])
        return None

    def _statement(self, text: str) -> tuple[Source, Match, tuple[str, ...]] | None:
        form = forms.text_form(text)
        if form is None or not 2 < len(text) <= MAX_REQUEST:
            return None
        for said in self._turns():
            if request.says(said, form[2:].decode()):
                return "user", "substring", ()
        return self._form(form, text)

    def _recipient(self, text: str) -> tuple[Source, Match, tuple[str, ...]] | None:
        bare = forms.address(text)
        if bare is not None:
            found = self._form(forms.email(bare), "")
            return found and (found[0], "derived", found[2])
        return self._form(forms.phone(text), text) if "@" not in text else self._several(text, "recipient")

    def _several(self, text: str, kind: Kind) -> tuple[Source, Match, tuple[str, ...]] | None:
        """Several recipients in one string: all of them, or none."""
        for mark in ("\n", ";", ","):
            if mark in text:
                parts = [part.strip() for part in text.split(mark)]
                parts = [part for part in parts if part]
                if not 1 < len(parts) <= MAX_ELEMENTS or (mark == "\n" and "@" not in parts[0]):
                    return None  # a name with a line break in it is not two names
                traced = [self._vouched(part, kind) for part in parts]
                known = [one for one in traced if one is not None]
                if len(known) < len(traced):
                    return None
                worst = max(known, key=lambda one: _WORST.index(one[0]))
                targets = tuple(dict.fromkeys(name for one in known for name in one[2]))
                return worst[0], "derived", targets[:3]
        return None

    def _url(self, text: str) -> tuple[Source, Match, tuple[str, ...]] | None:
        url = forms.Url.of(text)
        if url is None:
            return None
        found = self._form(url.form, text)
        if found is not None or url.query or url.fragment:
            return found  # a query or a fragment carries data: only as it was given
        host = self._form(b"h:" + url.host.encode(), "")
        if host is None:
            return None
        if url.path == "/":
            return host[0], "derived", host[2]
        if host[0] not in ("user", "mandate"):
            return None
        rest = url.path.strip("/")
        if "/" in rest and any(request.names(said, rest) for said in self._turns()):
            return host[0], "derived", host[2]  # "acme/web on github.com"
        return self._below(f"{url.scheme}://{url.host}", rest)

    def _path(self, text: str) -> tuple[Source, Match, tuple[str, ...]] | None:
        place = forms.path(text)
        if place is None:
            return None
        found = self._form(b"f:" + place.encode(), text)
        if found is not None:
            return found
        return self._below("", place) if not place.startswith("/") else self._below("/", place[1:])

    def _below(self, start: str, rest: str) -> tuple[Source, Match, tuple[str, ...]] | None:
        """Below a folder that the user or the mandate named, with nothing that means more than a name."""
        parts = rest.split("/")
        for depth in range(len(parts) - 1, max(0, len(parts) - 9), -1):
            name = parts[depth]
            if (
                not name
                or name[0] in ".~-"
                or not name.replace("-", "").replace("_", "").replace(".", "").replace(" ", "").isalnum()
            ):
                return None
            above = "/".join(parts[:depth])
            joined = f"{start}/{above}" if "://" in start else start + above
            at = self._find(form_print(b"d:" + joined.encode(), self._key))
            if at >= 0 and self._from[at] <= _MANDATE:
                return self._because(at, "derived")
        return None

    def _form(self, form: bytes | None, text: str) -> tuple[Source, Match, tuple[str, ...]] | None:
        """A known form; ``exact`` when ``text`` is spelt as the form is."""
        if form is None or not self._known:
            return None
        at = self._find(form_print(form, self._key))
        if at < 0:
            return None
        exact = form[2:] == text.encode()
        found = self._because(at, "exact" if exact else "derived")
        if exact and found[0] == "user":
            return "user", "substring", ()
        return found

    def _find(self, mark: bytes) -> int:
        at = self._known.find(mark)
        while at % 8 and at >= 0:
            at = self._known.find(mark, at + 1)
        return at // 8 if at >= 0 else -1

    def _because(self, at: int, match: Match) -> tuple[Source, Match, tuple[str, ...]]:
        index = self._from[at]
        if index <= _MANDATE:
            return ("user" if index == _USER else "mandate"), match, ()
        return "trusted", match, self._names((index - 2,))

    # ----------------------------------------------------------------------------------- untrusted

    def _suspects(self, value: str, kind: Kind) -> tuple[Match, tuple[str, ...]] | None:
        """How a value hangs together with untrusted results, and which."""
        if not self._whose and self._bitmap is None and not self._floods:
            return None
        data = words.plain(value[: words.MAX_TEXT])
        found = self._seen_whole(data)
        if found is not None:
            return "exact", self._names(found)
        tokens = words.known(words.cut(data.lower()))
        found = self._pieces(tokens, kind) or self._spellings(value, kind)
        flood = False
        if found is None:
            more, flood = words.deeper(data)
            found = self._pieces(more - tokens, kind) if more else None
        if found is not None:
            return "derived", self._names(found)
        if self._floods or flood:
            return "none", self._names(self._floods)
        return None

    def _seen_whole(self, data: bytes) -> list[int] | None:
        coarse = data.translate(words.COARSE).split()
        if len(coarse) > 1:
            return self._seen(words.phrase(data)) if len(data) <= 4 * PHRASE else None
        for token in coarse:
            bare = token.strip(words.EDGE).lower()
            if words.tells(bare):
                return self._seen(bare)
        return None

    def _pieces(self, tokens: set[bytes], kind: Kind) -> list[int] | None:
        telling = sorted(filter(_telling, tokens))
        for token in telling:
            found = self._seen(token)
            if found is not None:
                return found
        # Words alone say nothing one by one; all of them together are likely a name that was given there.
        if kind in ("text", "sql", "command") or len(tokens) < 2 or len(tokens) > 12:
            return None
        last = None
        for token in sorted(tokens):
            last = self._seen(token)
            if last is None:
                return None
        return last

    def _spellings(self, value: str, kind: Kind) -> list[int] | None:
        """Numbers are grouped in many ways in a text; an argument is not."""
        if kind in ("iban", "recipient", "id") and (form := forms.iban(value)):
            bare = form[2:].lower()
            groups = [bare[at : at + 4] for at in range(0, len(bare), 4)]
            if len(bare) != len(value) and (found := self._seen(bare)) is not None:
                return found
            if (found := self._seen(b"-".join(groups))) is not None:
                return found
            whole = [group for group in groups if len(group) == 4]
            if all(self._seen(group) is not None for group in whole):
                return self._seen(whole[-1])
        number = words.digits(words.plain(value[:64])) if kind in ("recipient", "iban", "id", "text") else b""
        if 6 < len(number) < 17:
            spelt_ways = [number]
            if len(number) == 10:
                parts = (number[:3], number[3:6], number[6:])
                spelt_ways += [b"-".join(parts), b".".join(parts)]
            for spelt in spelt_ways:
                if (found := self._seen(spelt)) is not None:
                    return found
        if kind == "text" and (form := forms.number(value)):
            plain = form[2:].decode()
            ways = [plain]
            if len(plain) < 16:
                ways += [f"{float(plain):.2f}", f"{float(plain):,.2f}".rpartition(",")[2]]
            for way in ways:
                if len(way) > 3 and (found := self._seen(way.encode())) is not None:
                    return found
        return None

    def _seen(self, token: bytes) -> list[int] | None:
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
            hits = list(self._wide) if 0 < len(self._wide) < 4 else [_NOWHERE]
        return hits or None

    def _names(self, indexes: Iterable[int]) -> tuple[str, ...]:
        count = len(self._targets)
        named = [self._targets[index] for index in indexes if index < count]
        return tuple(named) if len(named) < 2 else tuple(dict.fromkeys(named))[:3]

    # ------------------------------------------------------------------------------------- keeping

    def encode(self) -> list[Any]:
        """A plain value for a snapshot; the key is not in it."""
        return [
            1, self._request.decode(), bytes(self._known), bytes(self._from), list(self._targets),
            b"".join(self._log), list(self._ends), bytes(self._whose),
            None if self._bitmap is None else bytes(self._bitmap), list(self._wide), list(self._floods),
        ]  # fmt: skip

    @classmethod
    def decode(cls, value: Any, key: bytes = b"") -> Self:
        """Raises ``msgspec.ValidationError`` for what ``encode`` did not make."""
        kept = msgspec.convert(value, _Kept)
        self = cls(key)
        self._request = kept.request.encode()
        self._known = bytearray(kept.known)
        self._from = bytearray(kept.origins)
        self._named = sum(index <= _MANDATE for index in self._from)
        self._targets = kept.targets
        size = len(kept.log) // 3
        self._log = (
            bytearray(kept.log[:size]),
            bytearray(kept.log[size : 2 * size]),
            bytearray(kept.log[2 * size : 3 * size]),
        )
        self._ends = array("H", kept.ends)
        self._whose = bytearray(kept.whose)
        self._bitmap = None if kept.bitmap is None else bytearray(kept.bitmap)
        self._wide = kept.wide
        self._floods = kept.floods
        return self


class _Kept(msgspec.Struct, array_like=True):
    version: Literal[1]
    request: str
    known: bytes
    origins: bytes
    targets: list[str]
    log: bytes
    ends: list[Annotated[int, msgspec.Meta(ge=0, le=_LOG)]]
    whose: bytes
    bitmap: bytes | None
    wide: list[int]
    floods: list[int]


def _listed(value: str) -> list[Json] | None:
    """A list that is written as text, as some tools want their recipients."""
    try:
        listed = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return listed if type(listed) is list else None


def _telling(token: bytes) -> bool:
    """Whether a piece of a value is rare enough to say where the whole came from."""
    if len(token) < 4 or token.isalpha():
        return False
    if words.digits(token):
        return not (len(token) == 4 and token.isdigit() and token[:2] in (b"19", b"20"))
    return len(token) > 5


def weaker(one: Traced, other: Traced) -> Traced:
    """The one that is trusted less; the first of equals."""
    return one if _WORST.index(one.source) >= _WORST.index(other.source) else other
