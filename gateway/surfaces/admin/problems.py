"""Errors of the admin API as problem details (RFC 9457), with the reason code as an extension member."""

from __future__ import annotations

import logging
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from gateway.errors import ConfigError, JournalError, Refused, StateError, WardgateError
from gateway.reasons import REASONS
from gateway.surfaces.admin.models import Problem

logger = logging.getLogger("wardgate.admin")

_STATUS: Final = {
    "no_credential": 401,
    "bad_credential": 401,
    "revoked_credential": 401,
    "expired_credential": 401,
    "wrong_role": 403,
    "origin_refused": 421,
    "invalid_request": 422,
    "not_found": 404,
    "unknown_method": 405,
    "reload_refused": 409,
    "definition_changed": 409,
    "state_unavailable": 503,
    "journal_unavailable": 503,
}
MEDIA_TYPE: Final = "application/problem+json"
_CODES: Final = {404: "not_found", 405: "unknown_method"}


def problem(error: WardgateError, detail: str = "") -> Response:
    """The answer for one error; ``detail`` is shown and must be fit for the reader."""
    reason = REASONS[error.code]
    status = _STATUS.get(error.code, 500)
    body = Problem(
        type=f"/v1/reasons#{reason.code}",
        title=reason.title,
        status=status,
        detail=detail or reason.message,
        code=reason.code,
        remedy=reason.remedy,
    )
    headers = {"www-authenticate": 'Bearer realm="wardgate"'} if status == 401 else None
    return JSONResponse(body.model_dump(), status, headers, media_type=MEDIA_TYPE)


def described(document: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document with problems under their own media type, which FastAPI has no word for."""
    for item in document["paths"].values():
        for operation in item.values():
            for answer in operation["responses"].values():
                media = answer.get("content", {}).get("application/json", {})
                if media.get("schema", {}).get("$ref") == "#/components/schemas/Problem":
                    answer["content"] = {MEDIA_TYPE: media}
    return document


def install(app: FastAPI) -> None:
    """Turn every error of the app into a problem; what an exception says is shown only where meant."""

    async def refused(request: Request, error: Any) -> Response:
        return problem(error)

    async def invalid(request: Request, error: Any) -> Response:
        # Where and why, never the value: it may be a credential put into the wrong field.
        said = "; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors())
        return problem(Refused("invalid_request"), said)

    async def plain(request: Request, error: Any) -> Response:
        return problem(Refused(_CODES.get(error.status_code, "invalid_request")))

    async def not_reloaded(request: Request, error: Any) -> Response:
        return problem(Refused("reload_refused"), str(error))

    async def fault(request: Request, error: Any) -> Response:
        logger.error("a request to the admin API failed", exc_info=error)
        return problem(Refused("gateway_error"))

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(JournalError, refused)
    app.add_exception_handler(StateError, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, plain)
    app.add_exception_handler(ConfigError, not_reloaded)
    app.add_exception_handler(Exception, fault)
