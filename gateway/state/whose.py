"""Whose a session is: ids that follow from who asks, never from what a client likes; and who may use one."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final

import orjson

from gateway.model import Principal
from gateway.rolling import rolling_session
from gateway.sessions.session import Whose

ID: Final = re.compile(r"s-[0-9a-f]{32}")


def own_id(principal: Principal, name: str) -> str:
    """The id of a session that this principal opens by naming it."""
    return "s-" + sha256(f"{rolling_session(principal)} {name}".encode()).hexdigest()[:32]


def id_of(principal: Principal, named: str) -> str:
    """The id of the session that a request is in, if there is such a session."""
    if ID.fullmatch(named):
        return named
    if principal.mandate_json:
        return own_id(principal, f"token {orjson.loads(principal.mandate_json)['id']}")
    return own_id(principal, f"named {named}") if named else rolling_session(principal)


def anew_id(session: str, act: int) -> str:
    """The session that follows a rolling one which an act has ended."""
    return "s-" + sha256(f"{session} {act}".encode()).hexdigest()[:32]


def belongs(whose: Whose, principal: Principal) -> bool:
    """Whether this principal may use a session."""
    return (
        whose.tenant == principal.tenant
        and whose.agent == principal.agent
        and whose.subject == principal.subject
        and whose.credential in ("", principal.credential)
    )


def opener(by: str) -> str:
    """Names of agents have no spaces."""
    kind, space, _ = by.partition(" ")
    return kind if space else "agent"
