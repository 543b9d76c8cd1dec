"""``requestState``: what a client keeps between two rounds of a call, sealed so that it can only be kept.

The specification calls it attacker-controlled input (2026-07-28, basic/patterns/mrtr). It is encrypted and
authenticated with AES-256-GCM, bound to the principal and to the exact request, short-lived, and taken once.
Nothing in it can be read or made by anybody else, so an upstream's own state inside it is safe as well.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.surfaces.mcp import protocol
from gateway.surfaces.mcp.envelope import Rejected

LIFE_S: Final = 900.0
"""How long the answers of one round may take, in seconds."""

MAX_BYTES: Final = 256 * 1024
MAX_TAKEN: Final = 10_000  # states of one principal taken within ``LIFE_S``; beyond it none is taken
_NONCE: Final = 12


class Seal:
    """Seals and opens; remembers what was opened, so that it cannot be opened again. One event loop."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        # Of each owner apart, so that one who takes many takes no place of the others: nonce → its end.
        self._taken: dict[Hashable, OrderedDict[bytes, int]] = {}

    def close(self, what: Any, bound_to: bytes, now_ns: int) -> str:
        """``what`` (JSON) as an opaque string that opens only for ``bound_to``."""
        nonce = os.urandom(_NONCE)
        until = now_ns + int(LIFE_S * 1e9)
        sealed = self._cipher.encrypt(nonce, orjson.dumps([until, what]), bound_to)
        return base64.urlsafe_b64encode(nonce + sealed).decode()

    def open(self, state: object, bound_to: bytes, owner: Hashable, now_ns: int) -> Any:
        """What was sealed; raises ``Rejected`` for everything that is not exactly a state of ours, unused."""
        if not isinstance(state, str) or len(state) > MAX_BYTES:
            raise _refused("it is no state of this gateway")
        try:
            raw = base64.b64decode(state, altchars=b"-_", validate=True)
            if base64.urlsafe_b64encode(raw).decode() != state:
                raise ValueError  # another spelling of the same bytes: what was altered is not ours
            until, what = orjson.loads(self._cipher.decrypt(raw[:_NONCE], raw[_NONCE:], bound_to))
        except (binascii.Error, ValueError, InvalidTag):
            # Altered, made up, of another principal, or of a request with other arguments: all the same.
            raise _refused("it does not belong to this request") from None
        if now_ns > until:
            raise _refused("its time is over")
        self._take(self._taken.setdefault(owner, OrderedDict()), raw[:_NONCE], until, now_ns)
        return what

    @staticmethod
    def _take(taken: OrderedDict[bytes, int], nonce: bytes, until: int, now_ns: int) -> None:
        while taken and next(iter(taken.values())) < now_ns:
            taken.popitem(last=False)
        if nonce in taken:
            raise _refused("it has been used")
        if len(taken) >= MAX_TAKEN:
            raise Rejected("overloaded", status=200)  # what cannot be remembered could be used twice
        taken[nonce] = until


def _refused(why: str) -> Rejected:
    return Rejected(
        "bad_request_state", f"The requestState is refused: {why}.", status=200, rpc=protocol.INVALID_PARAMS
    )
