"""What the gateway would say to a token, in detail, for operators."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
import orjson

from gateway.config import Config
from gateway.errors import Unauthenticated
from gateway.identity import jws
from gateway.identity.authenticator import Authenticator, Stored
from gateway.identity.directory import Directory
from gateway.model import Presented
from gateway.storage.revocations import TokenRevocation

_LONGEST: Final = 300  # characters shown of one value


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: ``code`` is "" for a token that would be accepted. Never holds the signature."""

    code: str = ""
    detail: str = ""
    agent: str = ""
    tenant: str = ""
    subject: str | None = None
    chain: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    missing_scopes: tuple[str, ...] = ()
    issuer: str = ""  # by its name in the configuration
    keys: str = ""  # what became of asking for them
    header: Mapping[str, str] = {}
    claims: Mapping[str, str] = {}


async def examine(token: bytes, config: Config, revocations: Iterable[TokenRevocation]) -> Examined:
    """Judge a token exactly as a running gateway of this configuration would."""
    authenticator = Authenticator(Directory(time.time_ns))
    try:
        authenticator.load(Stored((), revocations), config)
        seen: dict[str, Any] = {}
        try:
            parts = jws.take_apart(token)
            seen = {"header": _shown(parts.header), "claims": _shown(parts.claims)}
            issuer = next(
                (
                    each
                    for each in authenticator.issuers.values()
                    if each.config.issuer == parts.claims.get("iss")
                ),
                None,
            )
            if issuer is not None:
                await issuer.keyring.refresh()
                ring = issuer.keyring
                seen |= {"issuer": issuer.name, "keys": ring.failure or f"{ring.usable} usable"}
            # By a header, so that nothing stands between this and what an agent would be told.
            who = await authenticator.agent(Presented(b"Bearer " + token))
        except Unauthenticated as refused:
            return Examined(code=refused.code, detail=refused.detail, **seen)
        code = "insufficient_scope" if who.missing_scopes else ""
        detail = f"it may look around, and every call is refused: lacks {' '.join(who.missing_scopes)}"
        return Examined(
            code=code, detail=detail if code else "", agent=who.agent, tenant=who.tenant, subject=who.subject,
            chain=who.chain, labels=who.labels, missing_scopes=who.missing_scopes, **seen,
        )  # fmt: skip
    finally:
        await authenticator.close()


def _shown(part: Mapping[str, Any]) -> dict[str, str]:
    shown = {}
    for name, value in part.items():
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        shown[name] = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
    for name in ("exp", "iat", "nbf"):
        if isinstance(value := part.get(name), int | float) and 0 <= value < 1e11:
            moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(value))
            shown[name] += f" ({moment}, {value - time.time():+.0f} s)"
    return shown
