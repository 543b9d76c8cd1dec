"""What a token whose signature holds must say, and what it then means.

The order is fixed: for us, at this time, for this use; then who. Every refusal has the code of the first
thing that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from gateway.config_identity import IssuerConfig
from gateway.config_trust import build_hash
from gateway.errors import Unauthenticated
from gateway.identity.jws import Jws, malformed

_S: Final = 1_000_000_000
_LATEST_S: Final = 1e11  # the year 5138: beyond it a time is a mistake in units
_LONGEST: Final = 256  # characters of a name


class Claims(NamedTuple):
    """The meaning of one token."""

    agent: str  # by name; not yet known to be configured
    subject: str | None  # with the issuer's prefix
    chain: tuple[str, ...]  # actors, root first, with the prefix; the last one is the agent
    scopes: tuple[str, ...]
    labels: tuple[str, ...]
    missing: tuple[str, ...]  # required scopes it lacks
    mandate_json: bytes  # what it delegates; "" when nothing
    build: str  # hash of what the agent is; "" when it does not say
    jti: str | None
    sub: str | None  # as the issuer says it
    issued_ns: int
    until_ns: int  # believed before this time


def check(name: str, issuer: IssuerConfig, jws: Jws, now_ns: int) -> Claims:
    """Raises ``Unauthenticated``; ``name`` is the issuer's in the configuration."""
    claims = jws.claims
    # An ID token, or a token for another resource server, was not made to be used here (RFC 8707).
    if not _audiences(claims) & set(issuer.audience):
        raise Unauthenticated("wrong_audience", f"{name}: aud is none of the issuer's 'audience'")
    if issuer.require_at_jwt and jws.typ != "at+jwt":
        raise malformed("typ is not at+jwt")
    issued_ns, until_ns = _times(name, issuer, claims, now_ns)
    # Bound to a key of its holder (RFC 7800), which nobody has shown: as a bearer token it is stolen.
    if "cnf" in claims:
        raise malformed("bound to a key (cnf), which cannot be checked here")
    sub = _text(claims, "sub")
    actors = _actors(issuer, claims)
    named = issuer.agent if issuer.agent_claim is None else _at(claims, issuer.agent_claim)
    if not isinstance(named, str) or not named:
        raise Unauthenticated("unknown_agent", f"{name}: no text at '{issuer.agent_claim}'")
    agent = named if issuer.agent_claim is None else _agent(issuer, named)
    # The outermost actor is who acts (RFC 8693, 4.1): another one than the agent would be two answers.
    if actors and issuer.agent_claim is not None and actors[-1].sub != named:
        by_actor = _agent(issuer, actors[-1].sub) if actors[-1].iss in (None, issuer.issuer) else None
        if by_actor is None or by_actor != agent:
            raise malformed("the actor (act) is not the agent")
    if agent is None:
        raise Unauthenticated("unknown_agent", f"{name}: {named[:80]!r} is not in 'agents'")
    scopes = _scopes(issuer, claims)
    prefix = issuer.prefix(name)
    return Claims(
        agent=agent,
        subject=_subject(issuer, claims, named, prefix),
        chain=tuple(actor.shown(issuer.issuer, prefix) for actor in actors),
        scopes=scopes,
        labels=tuple(dict.fromkeys(label for scope in scopes for label in issuer.scopes.get(scope, ()))),
        missing=tuple(scope for scope in issuer.required_scopes if scope not in scopes),
        mandate_json=_mandate(issuer, claims),
        build=_build(issuer, claims),
        jti=_text(claims, "jti"),
        sub=sub,
        issued_ns=issued_ns,
        until_ns=until_ns,
    )


def _audiences(claims: Mapping[str, Any]) -> set[str]:
    aud = claims.get("aud")
    values = aud if isinstance(aud, list) else [aud]
    if not all(isinstance(value, str) for value in values):
        raise Unauthenticated("wrong_audience", "aud is no text")
    return set(values)


def _times(name: str, issuer: IssuerConfig, claims: Mapping[str, Any], now_ns: int) -> tuple[int, int]:
    """When it was issued, and until when it is believed."""
    leeway = int(issuer.leeway_s * _S)
    issued, expires, before = (_moment(claims, what) for what in ("iat", "exp", "nbf"))
    if issued is None or expires is None:
        raise malformed("iat and exp are needed")
    if expires + leeway <= now_ns:
        raise Unauthenticated("expired_credential", f"{name}: exp was {(now_ns - expires) / _S:.0f} s ago")
    for what, moment in (("nbf", before), ("iat", issued)):
        if moment is not None and moment - leeway > now_ns:
            ahead = (moment - now_ns) / _S
            raise Unauthenticated("not_yet_valid", f"{name}: {what} is {ahead:.0f} s in the future")
    # However long the issuer lets its tokens live, a revocation need not be kept longer than this.
    oldest = issued + int(issuer.max_age_s * _S) + leeway
    if oldest <= now_ns:
        raise Unauthenticated("expired_credential", f"{name}: older than max_age_s")
    return issued, min(expires + leeway, oldest)


def _moment(claims: Mapping[str, Any], name: str) -> int | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LATEST_S:
        raise malformed(f"{name} is no time")
    return int(value * _S)


class _Actor(NamedTuple):
    sub: str
    iss: str | None

    def shown(self, issuer: str, prefix: str) -> str:
        return prefix + self.sub if self.iss in (None, issuer) else f"{self.iss}:{self.sub}"


def _actors(issuer: IssuerConfig, claims: Mapping[str, Any]) -> tuple[_Actor, ...]:
    """The ``act`` claim (RFC 8693), root first."""
    found: list[_Actor] = []
    inside: Any = claims
    while "act" in inside:
        inside = inside["act"]
        # A chain nobody can follow is no account of who acts.
        if not isinstance(inside, dict) or (sub := _text(inside, "sub")) is None:
            raise malformed("act is no object with a sub")
        if len(found) >= issuer.max_chain:
            raise malformed("act is longer than max_chain")
        iss = _text(inside, "iss")
        # Shown before the name, so it must not look like the prefix of an issuer of ours.
        if iss is not None and "://" not in iss:
            raise malformed("iss of act is no URL")
        found.append(_Actor(sub, iss))
    return tuple(reversed(found))


def _agent(issuer: IssuerConfig, named: str) -> str | None:
    return issuer.agents.get(named) if issuer.agents else named


def _subject(issuer: IssuerConfig, claims: Mapping[str, Any], named: str, prefix: str) -> str | None:
    """The end user. In a token a client got for itself, the subject is the client (RFC 9068, 2.2)."""
    if issuer.subject == "never":
        return None
    subject = _text(claims, issuer.subject_claim)
    if issuer.subject == "always":
        if subject is None:
            raise malformed(f"no '{issuer.subject_claim}'")
        return prefix + subject
    itself = {claims.get("azp"), claims.get("client_id")} - {None} if _hashable(claims) else set()
    if issuer.agent_claim is not None:
        itself.add(named)
    return None if subject is None or subject in itself else prefix + subject


def _hashable(claims: Mapping[str, Any]) -> bool:
    return all(isinstance(claims.get(name), str | None) for name in ("azp", "client_id"))


def _scopes(issuer: IssuerConfig, claims: Mapping[str, Any]) -> tuple[str, ...]:
    value = claims.get(issuer.scopes_claim)
    if value is None:
        return ()
    words = value.split(" ") if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise malformed(f"'{issuer.scopes_claim}' is no list of scopes")
    return tuple(dict.fromkeys(word for word in words if word))


def _mandate(issuer: IssuerConfig, claims: Mapping[str, Any]) -> bytes:
    """The mandate as the issuer says it; its content is judged where the session is opened."""
    if issuer.mandate_claim is None:
        return b""
    value = _at(claims, issuer.mandate_claim)
    if value is None:
        return b""
    # A token whose bounds cannot be read must not be good for everything instead.
    if not isinstance(value, dict) or value.keys() != {"id", "mandate"} or _text(value, "id") is None:
        raise malformed(f"'{issuer.mandate_claim}' is no object with an 'id' and a 'mandate'")
    if not isinstance(value["mandate"], dict):
        raise malformed("the mandate is no object")
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _build(issuer: IssuerConfig, claims: Mapping[str, Any]) -> str:
    """Which model, prompt and tools the agent is."""
    value = _at(claims, issuer.build_claim) if issuer.build_claim is not None else None
    if value is None:
        return ""
    if not isinstance(value, dict) or value.keys() != {"model", "prompt", "tools"}:
        raise malformed(f"'{issuer.build_claim}' is no object with 'model', 'prompt' and 'tools'")
    said = [_text(value, name) for name in ("model", "prompt", "tools")]
    if None in said:
        raise malformed(f"'{issuer.build_claim}' leaves something out")
    return build_hash(*map(str, said))


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    value = claims.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value or len(value) > _LONGEST or not value.isprintable():
        raise malformed(f"'{name}' is no short text")
    return value


def _at(claims: Mapping[str, Any], where: str) -> Any:
    """A claim by name, or by JSON pointer (RFC 6901) into objects."""
    if not where.startswith("/"):
        return claims.get(where)
    value: Any = claims
    for part in where[1:].split("/"):
        if not isinstance(value, dict):
            return None
        value = value.get(part.replace("~1", "/").replace("~0", "~"))
    return value
