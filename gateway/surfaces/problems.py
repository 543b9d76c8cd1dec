"""Errors of the HTTP surfaces as problem details (RFC 9457), with the reason code as an extension member."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from gateway.errors import (
    ApprovalError,
    BadMandate,
    ConfigError,
    JournalError,
    NotSigned,
    Refused,
    StateError,
    Unauthenticated,
    WardgateError,
)
from gateway.reasons import REASONS, sentence

logger = logging.getLogger("wardgate.http")

STATUS: Final[Mapping[str, int]] = {
    "no_such_session": 404,
    "session_closed": 409,
    "bad_mandate": 422,
    "no_credential": 401,
    "bad_credential": 401,
    "revoked_credential": 401,
    "expired_credential": 401,
    "wrong_role": 403,
    "insufficient_scope": 403,
    "issuer_unavailable": 503,
    "definition_changed": 409,
    "origin_refused": 421,
    "malformed_json": 400,
    "duplicate_key": 400,
    "number_out_of_range": 400,
    "too_deep": 400,
    "too_large": 413,
    "args_too_large": 413,
    "invalid_request": 422,
    "invalid_arguments": 422,
    "key_reused": 422,
    "not_found": 404,
    "unknown_upstream": 404,
    "unknown_tool": 404,
    "not_visible": 404,
    "unknown_decision": 404,
    "unknown_method": 405,
    "runs_elsewhere": 409,
    "reload_refused": 409,
    "duplicate_effect": 409,
    "in_doubt": 409,
    "already_settled": 409,
    "decision_lapsed": 409,
    "key_in_use": 409,
    "answer_not_kept": 409,
    "approval_needed": 409,
    "approval_under_way": 409,
    "approval_done": 409,
    "approval_changed": 409,
    "approval_lapsed": 409,
    "approval_stale": 412,
    "approval_closed": 409,
    "approval_votes_altered": 409,
    "vote_conflict": 409,
    "reason_required": 422,
    "edit_refused": 422,
    "grant_refused": 409,
    "envelope_refused": 409,
    "not_similar": 422,
    "review_cap": 429,
    "callback_replayed": 409,
    "promotion_refused": 409,
    "demotion_refused": 409,
    "overloaded": 503,
    "shutting_down": 503,
    "state_unavailable": 503,
    "policy_unavailable": 503,
    "journal_unavailable": 503,
    "outcome_unrecorded": 503,
    "upstream_unavailable": 503,
    "upstream_timeout": 504,
    "upstream_lost": 502,
    "upstream_bad_answer": 502,
    "upstream_error": 502,
    "gateway_error": 500,
}
"""The HTTP status of each reason. What is not here is a decision against the caller: 403."""

MEDIA_TYPE: Final = "application/problem+json"
_CODES: Final = {404: "not_found", 405: "unknown_method"}


class Problem(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(extra="ignore")

    type: str = Field(examples=["urn:wardgate:reason:bad_credential"])
    title: str = Field(examples=["Malformed or unknown credential"])
    status: int = Field(examples=[401])
    detail: str = Field(examples=["The credential is malformed or unknown."])
    code: str = Field(description="Reason code.", examples=["bad_credential"])
    remedy: str = Field(description="What would be accepted instead.")


class MandateFault(BaseModel):
    """What is wrong at one place of a mandate, and what would be accepted instead."""

    pointer: str = Field(
        description="JSON pointer into the mandate; empty for the whole.", examples=["/tools/0"]
    )
    what: str = Field(examples=["covers tools that nobody has named"])
    remedy: str = Field(examples=["name upstreams, as in 'git/*'"])


class MandateProblem(Problem):
    """A mandate that cannot be given, with all that is wrong with it."""

    faults: list[MandateFault] = Field(default_factory=list)


def faults(error: WardgateError) -> list[MandateFault]:
    """What a refused mandate says of itself; empty for every other error."""
    found = error.faults if isinstance(error, BadMandate) else ()
    return [MandateFault(pointer=each.at, what=each.what, remedy=each.remedy) for each in found]


class ApprovalProblem(Problem):
    """A decision about a held call that was not accepted."""

    approval: dict[str, Any] | None = Field(None, description="The approval as it is now.")


def problem(
    error: WardgateError,
    detail: str = "",
    *,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer for one error; ``detail`` is shown and must be fit for the reader."""
    body = described_error(error.code, detail, status=status or status_of(error))
    if isinstance(error, BadMandate):
        body = MandateProblem(**body.model_dump(), faults=faults(error))
    return answer(body, headers=headers)


def status_of(error: WardgateError) -> int:
    """The HTTP status of a refusal: whatever is wrong with a credential is 401."""
    return STATUS.get(error.code, 401 if isinstance(error, Unauthenticated) else 403)


def described_error(code: str, detail: str = "", *, status: int | None = None) -> Problem:
    """The problem a reason code is."""
    reason = REASONS[code]
    return Problem(
        type=f"urn:wardgate:reason:{code}",
        title=reason.title,
        status=STATUS.get(code, 403) if status is None else status,
        detail=detail or reason.message,
        code=code,
        remedy=reason.remedy,
    )


def answer(body: Problem, *, headers: Mapping[str, str] | None = None) -> Response:
    """Send a problem with the status it names."""
    sent = dict(headers or {})
    if body.status == 401:
        sent.setdefault("www-authenticate", 'Bearer realm="wardgate"')
    return JSONResponse(body.model_dump(), body.status, sent, media_type=MEDIA_TYPE)


def described(document: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document with problems under their own media type, which FastAPI has no word for."""
    for item in document["paths"].values():
        for operation in item.values():
            for response in operation["responses"].values():
                media = response.get("content", {}).get("application/json", {})
                if str(media.get("schema", {}).get("$ref")).endswith("Problem"):
                    response["content"] = {MEDIA_TYPE: media}
    return document


def invalid_detail(error: RequestValidationError) -> str:
    """Where and why, never the value: it may be a credential put into the wrong field."""
    said = "; ".join(f"{_where(e['loc'])}: {e['msg']}" for e in error.errors())
    return said[:_MAX_DETAIL]


def install(app: FastAPI, *, reply: Callable[[Request, WardgateError, str], Response] | None = None) -> None:
    """Turn every error of the app into a problem; what an exception says is shown only where meant.

    ``reply`` makes the answer, where a surface says more of a refusal than this module does.
    """

    def said(request: Request, error: WardgateError, detail: str = "") -> Response:
        return problem(error, detail) if reply is None else reply(request, error, detail)

    async def refused(request: Request, error: Any) -> Response:
        return said(request, error)

    async def not_so(request: Request, error: Any) -> Response:
        base = described_error(error.code, f"{error.reason.message} {error.detail}".strip())
        state = None if error.state is None else dict(error.state)
        return answer(ApprovalProblem(**base.model_dump(), approval=state))

    async def invalid(request: Request, error: Any) -> Response:
        return said(request, Refused("invalid_request"), invalid_detail(error))

    async def plain(request: Request, error: Any) -> Response:
        response = said(request, Refused(_CODES.get(error.status_code, "invalid_request")))
        for name, value in (error.headers or {}).items():  # such as Allow
            response.headers[name] = value
        return response

    async def not_reloaded(request: Request, error: Any) -> Response:
        return said(request, Refused("reload_refused"), str(error))

    async def fault(request: Request, error: Any) -> Response:
        logger.error("a request failed inside the gateway", exc_info=error)
        return said(request, Refused("gateway_error"))

    async def not_signed(request: Request, error: Any) -> Response:
        return said(request, error, f"{error.reason.message} {sentence(error.detail)}".strip()[:_MAX_DETAIL])

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(NotSigned, not_signed)
    app.add_exception_handler(JournalError, refused)
    app.add_exception_handler(StateError, refused)
    app.add_exception_handler(ApprovalError, not_so)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, plain)
    app.add_exception_handler(ConfigError, not_reloaded)
    app.add_exception_handler(Exception, fault)


def _where(location: tuple[Any, ...]) -> str:
    """The field; bounded, because of an unknown one the name is the sender's own."""
    return str(location[-1])[:_MAX_NAME] if location else "body"


_MAX_DETAIL: Final = 1000
_MAX_NAME: Final = 64
