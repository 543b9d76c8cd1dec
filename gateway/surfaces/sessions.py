"""Sessions as both ports take and show them, and what they ask of the gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Protocol

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from gateway.model import Principal

SESSION_ID: Final = "s-5d0c2f1f6f6a4d0ab0a2e9c0d6a1b7e4"
MAX_NOTE: Final = 1_000

Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Seen = Mapping[str, Any]

# What turns lines round or hides text would be read differently from what it says.
_PLAIN: Final = r"^[^\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]*$"
Plain = Annotated[str, StringConstraints(pattern=_PLAIN)]
Label = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,64}$")]


class Sessions(Protocol):
    """Where sessions are reached. All raise ``Refused``; what is shown are the fields of the models here."""

    def knows(self, tenant: str, agent: str) -> bool: ...

    def may_open(self, principal: Principal, agent: str, subject: str | None) -> None: ...

    async def open_for(
        self, principal: Principal, *, agent: str, subject: str | None, mandate: Mapping[str, Any] | None,
        parent: str, note: str,
    ) -> Seen: ...  # fmt: skip

    async def current(self, principal: Principal, named: str) -> Seen: ...

    async def shown_to(self, principal: Principal, session: str) -> Seen: ...

    async def close_for(self, principal: Principal, session: str, note: str) -> Seen: ...

    async def listed(
        self, tenant: str, agent: str | None, *, closed: bool, limit: int, after: str
    ) -> tuple[Sequence[Seen], str | None]: ...

    async def shown(self, tenant: str, session: str) -> Seen: ...

    async def open_by(
        self, operator: str, *, tenant: str, agent: str, subject: str | None,
        mandate: Mapping[str, Any] | None, parent: str, note: str, broad: bool,
    ) -> Seen: ...  # fmt: skip

    async def act(
        self, operator: str, *, tenant: str, session: str,
        act: Literal["close", "checkpoint", "declassify"], note: str, labels: Sequence[str] = (),
    ) -> Seen: ...  # fmt: skip


# ------------------------------------------------------------------------------------------- requests


class _Taken(BaseModel):
    # A field nobody reads could be a bound that its writer counts on, so an unknown one is refused.
    model_config = ConfigDict(extra="forbid", strict=True)


class OpenSession(_Taken):
    """A piece of work to be handed out, with its bounds."""

    mandate: dict[str, Any] | None = Field(
        None,
        description="What is delegated; see the guide to mandates. Left out, it is the parent's.",
        examples=[{"objective": "pay the March invoices", "tools": ["office/*"], "budgets": {"writes": 5}}],
    )
    subject: str | None = Field(
        None, min_length=1, max_length=500, description="The verified user it is for, and nobody else."
    )
    parent: str = Field("", max_length=128, description="The session it is part of.", examples=[""])
    note: Plain = Field("", max_length=MAX_NOTE, description="For people who look at it.")


class Noted(_Taken):
    """Something done to a session."""

    note: Plain = Field("", max_length=MAX_NOTE, description="Why; on record.")


# -------------------------------------------------------------------------------------------- answers


class _Shown(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Progress(_Shown):
    """What was done since somebody last made sure that the session is on its way."""

    due: bool = Field(description="A person should look before it goes on.")
    why: str
    actions: int
    minutes: int
    periods: int
    risk_sum: int
    threshold: int
    verified: list[str] = Field(description="Milestones that were reached.")
    open: list[str] = Field(description="Milestones that were not.")


class Step(_Shown):
    """One of the last calls."""

    target: str = Field(examples=["office/pay_invoice"])
    risk: str
    status: str
    at: Moment


class SessionView(_Shown):
    """A session as it is now."""

    id: str = Field(examples=[SESSION_ID])
    agent: str = Field(description="The agent it is for.", examples=["worker"])
    subject: str | None = Field(None, description="The verified user it is for.")
    rolling: bool = Field(description="The one a credential has without asking.")
    status: Literal["open", "expired", "closed"]
    parent: str | None = None
    successor: str | None = Field(None, description="What goes on in its place, after it was ended.")
    opened: Moment
    opened_by: str | None = None
    expires: Moment | None = None
    mandate: dict[str, Any] | None = Field(
        None, description="What is delegated, with all that was completed."
    )
    calls: int
    writes: int
    irreversible: int
    denials: int
    errors: int
    budgets: dict[str, dict[str, dict[str, int]]] = Field(
        description="By scope (session, tree, agent, tenant) and metric: limit, used, reserved, left.",
        examples=[{"session": {"writes": {"limit": 5, "used": 1, "reserved": 0, "left": 4}}}],
    )
    integrity: Literal["trusted", "untrusted"] = Field(
        description="untrusted: something that an outsider can write has reached the agent."
    )
    confidentiality: Literal["public", "internal", "confidential", "secret"]
    labels: list[str]
    sources: list[str] = Field(description="Tools that put labels on it.")
    suspect_since: Moment | None = Field(
        None,
        description="Since when a breaker says something is wrong, until a reviewer says it was nothing.",
    )
    progress: Progress | None = None
    last: list[Step]


class DoneToIt(_Shown):
    """Something that was done to a session."""

    act: str = Field(examples=["open"])
    at: Moment
    by: str
    note: str = ""
    detail: dict[str, Any] = Field(default_factory=dict)


class SessionDetail(SessionView):
    """A session as operators see it."""

    tenant: str
    credential: str | None = Field(None, description="Id of the credential it is bound to.")
    acts: list[DoneToIt] = Field(default_factory=list, description="What was done to it, oldest first.")


class SessionList(_Shown):
    items: list[SessionDetail]
    cursor: str | None = Field(None, description="Pass it on to get the next page; null on the last.")


def unknown_agent() -> RequestValidationError:
    """For an ``agent`` in a body that is none of the tenant's."""
    said = "there is no such agent in this tenant"
    return RequestValidationError([{"type": "value_error", "loc": ("body", "agent"), "msg": said}])
