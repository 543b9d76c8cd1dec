"""Trusted values of one session, and whether one of them stands for an argument.

A value is vouched for by the user, by the mandate, or by a trusted field of a result. Which spellings are the
same value says ``forms.py``, which parts of a text ``request.py``; here they are tried, kind by kind.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from sys import intern
from typing import Final, Literal, NamedTuple

import orjson

from gateway.sessions.provenance import forms, request
from gateway.sessions.provenance.harvests import form_print, short_key
from gateway.sessions.provenance.lists import STOP, Kind

Match = Literal["exact", "substring", "derived", "none"]

MAX_REQUEST: Final = 8_000  # bytes of the user's words as JSON
MAX_KNOWN: Final = 768  # trusted values; a quarter of them is kept for the user and the mandate
MAX_PARTS: Final = 256  # of a list of recipients
MAX_JOINED: Final = 16_384  # characters of recipients in one string
_NAMED: Final = MAX_KNOWN // 4

USER: Final = 0
MANDATE: Final = 1
FIRST_TARGET: Final = 2  # origins from here on are targets


class Vouched(NamedTuple):
    """The weakest origin of a trusted value, and targets that vouch for parts of it."""

    origin: int
    match: Match
    targets: tuple[int, ...] = ()


def _compact(text: str) -> str | bytes:
    """A text as it is kept: ASCII once for all sessions that were asked the same, other text as UTF-8, since
    one rare letter would make each letter four bytes."""
    return intern(text) if text.isascii() else text.encode()


class Known:
    __slots__ = ("_firsts", "_key", "_marks", "_named", "_origins", "_request")

    def __init__(self, key: bytes, request: str = "", marks: bytes = b"", origins: bytes = b"") -> None:
        self._key = short_key(key)
        self._request = _compact(request)  # the user's words, turns with NUL between them
        self._marks = bytearray(marks)  # 8 bytes a trusted form
        # The first byte of each: a search for one byte is many times as fast as one for eight.
        self._firsts = self._marks[::8]
        self._origins = bytearray(origins)  # of each: user, mandate, or two more than a target's index
        self._named = sum(origin <= MANDATE for origin in origins)

    @property
    def request(self) -> str:
        return self._request if isinstance(self._request, str) else self._request.decode()

    @property
    def marks(self) -> bytes:
        return bytes(self._marks)

    @property
    def origins(self) -> bytes:
        return bytes(self._origins)

    def learn_request(self, text: str) -> bool:
        """``False`` when there was no room for all."""
        clean = text[: 2 * MAX_REQUEST].encode("utf-8", "replace").decode().replace("\x00", " ")
        clean = unicodedata.normalize("NFC", clean)
        before = self.request
        room = MAX_REQUEST - len(orjson.dumps(before))
        kept = clean.encode()[: max(0, room)].decode("utf-8", "ignore")
        while kept and len(orjson.dumps(kept)) > room:  # escapes of JSON take room too
            kept = kept[: len(kept) * 3 // 4]
        whole = len(text) <= 2 * MAX_REQUEST and kept == clean
        if not whole:  # a value cut in two would be another value
            kept = kept[: max(kept.rfind(" "), kept.rfind("\n")) + 1]
        if kept:
            said = text if kept == text else kept  # the same object as in the mandate, where it can be
            self._request = _compact(f"{before}\x00{said}" if before else said)
            for form in request.named_forms(kept):
                if not form.startswith(b"t:"):
                    whole &= self.learn(form_print(form, self._key), USER)
        return whole

    def trust(self, values: Iterable[str]) -> bool:
        """``False`` when there was no room for all."""
        whole = True
        for value in values:
            for form in forms.known_forms(value, named=True):
                whole &= self.learn(form_print(form, self._key), MANDATE)
        return whole

    def learn_all(self, marks: bytes, origin: int) -> None:
        """Take in the prints of a result, 8 bytes each, as far as there is room."""
        find, origins = self._find, self._origins
        for start in range(0, len(marks), 8):
            mark = marks[start : start + 8]
            at = find(mark)
            if at < 0 or origin < origins[at]:
                self.learn(mark, origin)

    def learn(self, mark: bytes, origin: int) -> bool:
        """Take in the print of a form; ``False`` when there is no room."""
        at = self._find(mark)
        if at >= 0:
            if origin < self._origins[at]:
                self._named += origin <= MANDATE < self._origins[at]
                self._origins[at] = origin
            return True
        # Results must not take the room of what the user says later.
        if origin <= MANDATE:
            if len(self._origins) >= MAX_KNOWN:
                return False
            self._named += 1
        elif len(self._origins) - self._named >= MAX_KNOWN - _NAMED or len(self._origins) >= MAX_KNOWN:
            return False
        self._marks += mark
        self._firsts.append(mark[0])
        self._origins.append(origin)
        return True

    def vouch(self, value: str, kind: Kind) -> Vouched | None:
        """Who stands for a value, or ``None``."""
        if kind in ("sql", "command"):
            return self._statement(value.strip())
        text = value.strip(" ")
        if not 0 < len(text) <= forms.MAX_VALUE:
            return self._several(text, kind) if kind == "recipient" and len(text) <= MAX_JOINED else None
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
        return self.request.split("\x00") if self._request else []

    def _word(self, text: str, *, fold: bool) -> Vouched | None:
        """A word or a phrase: a whole trusted value, or tokens in a row of what the user said."""
        form = forms.text_form(text)
        if form is None or not forms.proves(text):
            return None
        bare = form[2:].lower()
        if bare in STOP:
            return None
        at = self._find(form_print(form, self._key)) if self._marks else -1
        if at >= 0 and self._origins[at] <= MANDATE:
            return self._because(at, "exact")
        normal = form[2:].decode()
        for said in self._turns():
            if request.names(said, normal, person=fold):
                return Vouched(USER, "exact" if said.strip() == normal else "substring")
            if fold and request.names(said, normal, fold=True, person=True):
                return Vouched(USER, "derived")
        if at >= 0:
            return self._because(at, "exact")
        if fold and text[0] in "@#" and len(text) > 3:
            found = self._word(text[1:], fold=True)
            return found and found._replace(match="derived")
        return None

    def _statement(self, text: str) -> Vouched | None:
        form = forms.text_form(text)
        if form is None or not 2 < len(text) <= MAX_REQUEST:
            return None
        for said in self._turns():
            if request.says(said, form[2:].decode()):
                return Vouched(USER, "substring")
        return self._form(form, text)

    def _recipient(self, text: str) -> Vouched | None:
        bare = forms.address(text)
        if bare is not None:
            found = self._form(forms.email(bare), "")
            return found and found._replace(match="derived")
        return self._form(forms.phone(text), text) if "@" not in text else self._several(text, "recipient")

    def _several(self, text: str, kind: Kind) -> Vouched | None:
        """Several recipients in one string: all of them, or none."""
        for mark in ("\n", ";", ","):
            if mark in text:
                parts = [part.strip() for part in text.split(mark)]
                parts = [part for part in parts if part]
                if not 1 < len(parts) <= MAX_PARTS or (mark == "\n" and "@" not in parts[0]):
                    return None  # a name with a line break in it is not two names
                traced = [self.vouch(part, kind) for part in parts]
                known = [one for one in traced if one is not None]
                if len(known) < len(traced):
                    return None
                targets = tuple(dict.fromkeys(target for one in known for target in one.targets))
                return Vouched(max(one.origin for one in known), "derived", targets)
        return None

    def _url(self, text: str) -> Vouched | None:
        url = forms.Url.of(text)
        if url is None:
            return None
        found = self._form(url.form, text)
        if found is not None or url.query or url.fragment:
            return found  # a query or a fragment carries data: only as it was given
        host = self._form(b"h:" + url.host.encode(), "")
        if host is None:
            return None
        rest = url.path[1:].removesuffix("/")  # "//a" is another place than "/a"
        if url.scheme == "https":  # of a host that was named without more, no other way in
            if url.path == "/":
                return host._replace(match="derived")
            written = "/" in rest and any(request.names(said, rest) for said in self._turns())
            if written and host.origin <= MANDATE:
                return host._replace(match="derived")  # "acme/web on github.com"
        if not rest or host.origin > MANDATE:
            return None
        return self._below(f"{url.scheme}://{url.host}", rest)

    def _path(self, text: str) -> Vouched | None:
        place = forms.path(text)
        if place is None:
            return None
        found = self._form(b"f:" + place.encode(), text)
        if found is not None:
            return found
        return self._below("", place) if not place.startswith("/") else self._below("/", place[1:])

    def _below(self, start: str, rest: str) -> Vouched | None:
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
            if at >= 0 and self._origins[at] <= MANDATE:
                return self._because(at, "derived")
        return None

    def _form(self, form: bytes | None, text: str) -> Vouched | None:
        """A known form; ``exact`` when ``text`` is spelt as the form is."""
        if form is None or not self._marks:
            return None
        at = self._find(form_print(form, self._key))
        if at < 0:
            return None
        exact = form[2:] == text.encode()
        found = self._because(at, "exact" if exact else "derived")
        if exact and found.origin == USER:
            return Vouched(USER, "substring")
        return found

    def _find(self, mark: bytes) -> int:
        firsts, marks, first = self._firsts, self._marks, mark[0]
        at = firsts.find(first)
        while at >= 0 and marks[8 * at : 8 * at + 8] != mark:
            at = firsts.find(first, at + 1)
        return at

    def _because(self, at: int, match: Match) -> Vouched:
        origin = self._origins[at]
        return Vouched(origin, match, (origin - FIRST_TARGET,) if origin > MANDATE else ())
