"""What a value is, and the forms under which two spellings are the same value.

A trusted value is remembered by its forms, and an argument is trusted when one of its own is among them. So
each form must be *sound*: whatever an attacker writes, it has the form of a trusted value only when a tool
would take it for that value.

| form | same value | not the same |
|---|---|---|
| ``t`` text | byte for byte, or decomposed against composed accents | anything else, case too |
| ``e`` address | case | another local part, tag, domain, sub-domain |
| ``i`` IBAN | spaces, hyphens, case | |
| ``p`` phone | spaces, ``-.()``, ``00`` for ``+`` | with and without country code |
| ``h`` host | case, a dot at the end | sub-domains, other ports, IP addresses spelt another way |
| ``u`` URL | case of scheme and host, default port, escaped plain letters | userinfo, ``..``, another query |
| ``f`` path | ``./``, ``//``, ``/`` at the end | ``..``, case |
| ``n`` number | ``1,200.50`` for ``1200.5`` | |

All but ``t`` are ASCII only, on the side of the argument without folding: look-alikes, full-width letters,
invisible and bidirectional characters, and dots that are none, never have one. What the user or the mandate
says is folded (NFKC) before its forms are made, because nobody else could have written it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from gateway.sessions.provenance.lists import FILES, Kind

MAX_VALUE: Final = 1024  # characters; nothing longer is remembered as one trusted value

_EMAIL: Final = re.compile(
    r"[A-Za-z0-9!#$%&*+/=?^_~.'-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.)+[A-Za-z][A-Za-z0-9-]{1,62}"
)
_IBAN: Final = re.compile(r"(?=(?:[A-Z]*[0-9]){8})[A-Z]{2}[0-9]{2}[A-Z0-9]{10,30}")
_PHONE: Final = re.compile(r"(?:\+|00)?[0-9(][0-9 ().-]{5,24}[0-9]")
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})"
_HOST: Final = re.compile(
    rf"(?:{_LABEL}\.)+[A-Za-z][A-Za-z0-9-]{{1,62}}\.?|(?:[0-9]{{1,3}}\.){{3}}[0-9]{{1,3}}"
)
_HOST_PORT: Final = re.compile(rf"((?:{_LABEL}\.)*{_LABEL})(\.?)(?::([0-9]{{1,5}}))?")
_URL: Final = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]{1,15})://([^/?#\s\\@]+)([^?#\s\\]*)(\?[^#\s\\]*)?(#[^\s\\]*)?"
)
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*")
_PATH: Final = re.compile(r"(?:~?/|\.{1,2}/|[A-Za-z]:[\\/])\S.*", re.DOTALL)
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,18})(?:\.[0-9]{1,9})?")
_ESCAPED: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
_PORTS: Final = {"http": "80", "https": "443", "ws": "80", "wss": "443", "ftp": "21"}
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_DIGITS: Final = frozenset("0123456789")
_NUMERIC: Final = frozenset("+-(0123456789")


def text_form(text: str) -> bytes | None:
    """``None`` for a spelling that is neither composed nor decomposed: it may imitate another one."""
    if text.isascii():
        return b"t:" + text.encode()
    composed = unicodedata.normalize("NFC", text)
    if composed != text and unicodedata.normalize("NFD", composed) != text:
        return None
    try:
        return b"t:" + composed.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return None


def email(text: str) -> bytes | None:
    return b"e:" + text.lower().encode() if "@" in text and _EMAIL.fullmatch(text) else None


def iban(text: str) -> bytes | None:
    if not (text[2:4].isdigit() and text[:2].isalpha()):
        return None
    bare = text.replace(" ", "").replace("-", "").upper()
    return b"i:" + bare.encode() if _IBAN.fullmatch(bare) else None


def phone(text: str) -> bytes | None:
    if not _PHONE.fullmatch(text):
        return None
    bare = re.sub(r"[ ().-]", "", text)
    if bare.startswith("00"):
        bare = "+" + bare[2:]
    return b"p:" + bare.encode() if 7 <= len(bare) <= 16 else None


def host(text: str) -> bytes | None:
    """A name with at least one dot, or an IPv4 address, with its port when one is named."""
    name, _, port = text.partition(":")
    if not _HOST.fullmatch(name) or (port and not (port.isdigit() and len(port) < 6)):
        return None
    return b"h:" + name.rstrip(".").lower().encode() + (b":" + port.encode() if port else b"")


class Url:
    """An absolute URL in one spelling. ``of`` gives ``None`` for what two readers could read differently."""

    __slots__ = ("fragment", "host", "path", "query", "scheme")

    def __init__(self, scheme: str, host: str, path: str, query: str, fragment: str) -> None:
        self.scheme = scheme
        self.host = host  # with the port unless it is the default
        self.path = path  # "/" at least
        self.query = query
        self.fragment = fragment

    @classmethod
    def of(cls, text: str) -> Url | None:
        found = _URL.fullmatch(text)
        if found is None or not text.isascii() or _CONTROL.search(text):
            return None
        scheme, authority, path, query, fragment = found.groups(default="")
        scheme = scheme.lower()
        where = _HOST_PORT.fullmatch(authority)  # no userinfo: https://trusted.com@evil.com is evil.com's
        if where is None:
            return None
        name, port = where[1].lower(), where[3]
        if port and port != _PORTS.get(scheme):
            name += ":" + port
        path = _escapes(path) or "/"
        if any(part in (".", "..") for part in path.split("/")):
            return None
        return cls(scheme, name, path, _escapes(query), _escapes(fragment))

    @property
    def form(self) -> bytes:
        return f"u:{self.scheme}://{self.host}{self.path}{self.query}{self.fragment}".encode()


def _escapes(text: str) -> str:
    return _ESCAPED.sub(_escape, text) if "%" in text else text


def _escape(found: re.Match[str]) -> str:
    character = chr(int(found[1], 16))
    return character if character in _UNRESERVED else found[0].upper()


def path(text: str) -> str | None:
    """A path in one spelling; ``None`` when it is no path, or climbs."""
    if "/" not in text and text[1:2] != ":":  # of what has no slash only "C:\\" is one
        return None
    if not ("/" in text or _PATH.fullmatch(text)) or "://" in text:
        return None
    if not text.isascii() or _CONTROL.search(text):
        return None
    start = "/" if text.startswith("/") else ""
    parts = [part for part in text.split("/") if part not in ("", ".")]
    return start + "/".join(parts) if parts and ".." not in parts else None


def number(text: str) -> bytes | None:
    """Only what has four digits or more; fewer prove nothing."""
    if not _NUMBER.fullmatch(text):
        return None
    if text.isdigit():  # the most are, and need no arithmetic
        plain = text.lstrip("0")
        return b"n:" + plain.encode() if len(plain) > 3 else None
    value = Decimal(text.replace(",", "")).normalize()
    plain = f"{value:f}"
    return b"n:" + plain.encode() if sum(map(str.isdigit, plain)) > 3 else None


def shape(text: str) -> Kind | None:
    """What a whole value looks like, when that is not in doubt."""
    if not text:
        return None
    if "://" in text:
        return "url" if _ABSOLUTE.fullmatch(text) else None
    if "@" in text:
        return "recipient" if _EMAIL.fullmatch(text) or _PERSON.fullmatch(text) else None
    if (text[0] in "/~." or text[1:2] == ":") and _PATH.fullmatch(text):
        return "path" if len(text) <= MAX_VALUE and "\n" not in text else None
    if iban(text):
        return "iban"
    if "." in text and " " not in text:
        name = text.partition(":")[0].rstrip(".").lower()
        if _HOST.fullmatch(name):
            return "path" if name.rpartition(".")[2] in FILES else "host"
    return "recipient" if text.startswith("+") and phone(text) else None


_PERSON: Final = re.compile(r'[^<>@,;"]{0,100}<([^<>\s]{3,320})>|"[^<>@,;"]{0,100}"\s*<([^<>\s]{3,320})>')


def address(text: str) -> str | None:
    """The address of ``Ann Lee <ann@example.com>`` or ``mailto:ann@example.com``."""
    if text[:7].lower() == "mailto:":
        return text[7:]
    found = _PERSON.fullmatch(text)
    return (found[1] or found[2]) if found else None


def proves(text: str) -> bool:
    """Whether meeting this text says anything: not a short word, a small number, or a year."""
    if text.isascii():
        if len(text) < 3:
            return False
        if text.isdigit():
            return len(text) > 4 or (len(text) == 4 and not "1900" <= text <= "2099")
        return True
    return len(text) > 1


def known_forms(text: str, *, named: bool) -> Iterator[bytes]:
    """Forms of a trusted value. ``named`` by the user or the mandate: folded, and folders reach down."""
    text = text.strip()
    if not 0 < len(text) <= MAX_VALUE:
        return
    folded = unicodedata.normalize("NFKC", text) if named and not text.isascii() else text
    shaped = None
    if "@" in folded and folded.isascii():
        shaped = email(address(folded) or folded)
    elif "://" not in folded and folded[2:4].isdigit():
        shaped = iban(folded)
    if shaped:
        yield shaped
        return
    if proves(text):
        whole = text_form(text if text.isascii() else unicodedata.normalize("NFC", text))
        if whole is not None:
            yield whole
    # From here on each form is asked for only when the text has what all texts of that form have: this runs
    # for every string of every trusted result, and most have none.
    if folded.isalnum() and not folded.isdigit():
        return
    if not folded.isascii():
        return
    if "://" in folded:
        url = Url.of(folded)
        if url is not None:
            yield url.form
            if named or (url.path == "/" and not url.query and not url.fragment):
                yield b"h:" + url.host.encode()
            if named and not url.query and not url.fragment:
                folder = url.path.rstrip("/")
                if folder and (url.path.endswith("/") or folder.count("/") > 1):
                    yield b"d:" + f"{url.scheme}://{url.host}{folder}".encode()
        return
    if folded[-1] in _DIGITS and folded[0] in _NUMERIC:
        if len(folded) > 6 and (form := phone(folded)):
            yield form
        if form := number(folded):
            yield form
    # "setup.sh" in a request is a file; whoever registers the domain of that name was not named.
    if (
        "." in folded
        and folded.partition(":")[0].rstrip(".").rpartition(".")[2].lower() not in FILES
        and (name := host(folded))
    ):
        yield name
    place = path(folded)
    if place:
        yield b"f:" + place.encode()
        if named and _is_folder(folded, place):
            yield b"d:" + place.encode()


def _is_folder(text: str, place: str) -> bool:
    """Whether a path is clearly a folder, and not one so high that everything lies below it."""
    last = place.rpartition("/")[2]
    if not text.endswith("/") and ("." in last[1:] or place.count("/") < 2):
        return False
    depth = place.strip("/").count("/") + 1
    return depth > 1 or not (place[0] in "/~." or place[1:2] == ":")
