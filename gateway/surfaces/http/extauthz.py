"""Envoy's ``ext_authz`` contract, HTTP service: may this request go on?

Envoy sends the request's method, path (behind the configured prefix), some headers and, when it is told to,
the body; 200 lets the request go on, anything else is the answer its client gets. Configured routes say which
tool a request is. A request that could be read in two ways is refused, because the service behind Envoy is
the second reader.

Nobody ever reports what became of such a request, so its outcome is on record as ``unobserved``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_to_bytes

from fastapi import Request, Response

from gateway import pipeline, strictjson
from gateway.config_upstream import RouteConfig
from gateway.digest import new_id
from gateway.errors import Overloaded, Refused, WardgateError
from gateway.model import Answer, Ask, Outcome
from gateway.surfaces import problems
from gateway.surfaces.doors import (
    ClientGone,
    Heads,
    NotAdmitted,
    Receive,
    Scope,
    Send,
    check_content,
    read_body,
)
from gateway.surfaces.http import replies
from gateway.surfaces.http.deps import HttpDeps
from gateway.surfaces.http.front import EDGE, Caller, admit
from gateway.surfaces.http.models import CallProblem

logger = logging.getLogger("wardgate.http")

Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

SURFACE: Final = "extauthz"
MAX_TARGET: Final = 8192  # characters of a path with its query
_UPSTREAM: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_SEGMENT: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,=:@]|%[0-9A-Fa-f]{2})+")  # RFC 3986, without ";"
_QUERY: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$'()*+,=:@/?&]|%[0-9A-Fa-f]{2})*")
_CODES: Final = frozenset({401, 503})


def edge(deps: HttpDeps) -> Asgi:
    """The contract as raw ASGI: what Envoy sends on may be any path, so no router looks at it first."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await check(deps, request)
        except ClientGone:
            return
        except Exception:  # a fault of our own must read as a refusal, whatever Envoy makes of no answer
            logger.exception("a question of Envoy failed inside the gateway")
            response = _no(replies.said("gateway_error"))
        await response(scope, receive, send)

    return answer


async def check(deps: HttpDeps, request: Request) -> Response:
    """Answer one question of Envoy."""
    heads: Heads = request.scope["wardgate.heads"]
    caller: Caller | None = None
    try:
        # The request's own Authorization may be for the service behind Envoy.
        said = heads.get(b"x-wardgate-authorization") or heads.get(b"authorization")
        caller = await admit(deps, request.scope, said)
        upstream, name, args = await _asked(deps, request, heads)
    except Refused as refused:
        parts = deps.parts()
        principal = caller.principal if caller is not None else None
        parts.journal.refused(refused.code, SURFACE, principal, refused.detail)
        parts.telemetry.refused(refused.code, SURFACE)
        return _no(_problem(refused))
    return await _decide(caller, upstream, name, args)


async def _decide(caller: Caller, upstream: str, name: str, args: dict[str, Any]) -> Response:
    parts, principal = caller.parts, caller.principal
    cleared = await pipeline.decide(
        parts,
        Ask(
            principal=principal,
            surface=SURFACE,
            kind="tool",
            upstream=upstream,
            name=name,
            args=args,
            session=caller.session,
            traceparent=caller.heads.get(b"traceparent", b"").decode("latin-1"),
            call_id=new_id(),
        ),
    )
    if isinstance(cleared, Answer):
        assert cleared.refusal is not None
        return _no(replies.refused(cleared, cleared.refusal))
    if cleared.action == "modify":
        # Envoy forwards the request as it came, and policy allowed another one.
        await pipeline.settle(
            parts, cleared, Outcome(status="not_sent", detail="arguments cannot be changed here")
        )
        return _no(replies.said("obligation_conflict", decision_id=cleared.call.id))
    answer = await pipeline.settle(
        parts,
        cleared,
        Outcome(status="unobserved", detail="let through; nobody reports", started_ns=parts.clock.now_ns()),
    )
    if answer.refusal is not None:
        # The request has not gone on yet, so what could not be recorded need not happen.
        return _no(replies.said("journal_unavailable", decision_id=cleared.call.id))
    return Response(status_code=200, headers={"x-wardgate-decision-id": cleared.call.id})


async def _asked(deps: HttpDeps, request: Request, heads: Heads) -> tuple[str, str, dict[str, Any]]:
    """``(upstream, tool, arguments)`` of the request Envoy asks about."""
    upstream, segments, query = split(request.scope["raw_path"], request.scope["query_string"])
    routes = deps.routes(upstream)
    if routes is None:
        raise NotAdmitted("no_route", f"There is no upstream {upstream!r} with routes.", status=403)
    found = match(routes, request.method, segments)
    if found is None:
        raise NotAdmitted("no_route", status=403)
    route, args = found
    _add(args, query)
    _add(args, await _body(deps, request, heads, route))
    return upstream, route.tool, args


async def _body(deps: HttpDeps, request: Request, heads: Heads, route: RouteConfig) -> dict[str, Any]:
    server = deps.server
    if heads.get(b"x-envoy-auth-partial-body", b"false").lower() != b"false":
        # The rest would reach the service undecided.
        raise NotAdmitted("too_large", "Only a part of the body was sent to be decided.", status=403)
    if route.body == "json":
        check_content(heads, server.max_body_bytes)
    body = await read_body(request.receive, server.max_body_bytes, server.body_timeout_s)
    if route.body == "none":
        if body:
            raise NotAdmitted("invalid_request", "This route takes no body.", status=403)
        return {}
    value = strictjson.parse(body, server.max_depth)
    if not isinstance(value, dict):
        raise NotAdmitted("invalid_arguments", status=403)
    return value


def split(raw_path: bytes, query_string: bytes) -> tuple[str, list[str], list[tuple[str, str]]]:
    """Upstream, decoded segments and query of a path, or ``Refused`` for one that has two readings.

    Works on the bytes as they were sent: ``%2F``, ``..`` and double encoding mean one thing to a proxy that
    decodes first and another to one that splits first.
    """
    if len(raw_path) + len(query_string) > MAX_TARGET:
        raise NotAdmitted("too_large", status=403)
    path = raw_path.decode("latin-1")
    if not path.startswith(EDGE):
        raise _ambiguous("prefix")
    upstream, slash, rest = path[len(EDGE) :].partition("/")
    if not slash or not _UPSTREAM.fullmatch(upstream):
        raise _ambiguous("upstream")
    segments = [_segment(segment) for segment in rest.split("/")] if rest else []
    query = query_string.decode("latin-1")
    # A ';' separates parameters for some readers and belongs to a value for others.
    if not _QUERY.fullmatch(query):
        raise _ambiguous("query")
    try:
        return (
            upstream,
            segments,
            parse_qsl(
                query, keep_blank_values=True, strict_parsing=bool(query), errors="strict", max_num_fields=200
            ),
        )
    except ValueError:
        raise _ambiguous("query") from None


def _segment(raw: str) -> str:
    if not _SEGMENT.fullmatch(raw):
        raise _ambiguous("segment")  # empty, ";", a backslash, or what may not stand in a path
    try:
        text = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise _ambiguous("encoding") from None
    if text in (".", "..") or "/" in text or "\\" in text or "%" in text or not text.isprintable():
        raise _ambiguous("segment")
    return text


def _ambiguous(what: str) -> NotAdmitted:
    return NotAdmitted("invalid_request", f"The {what} of the path can be read in two ways.", status=403)


def match(
    routes: Sequence[RouteConfig], method: str, segments: Sequence[str]
) -> tuple[RouteConfig, dict[str, Any]] | None:
    """The first route that fits, and the arguments its path gives."""
    for route in routes:
        template = route.path.split("/")[1:]
        template = [] if template == [""] else template
        if route.method != method or len(template) != len(segments):
            continue
        args: dict[str, Any] = {}
        for wanted, given in zip(template, segments, strict=True):
            if wanted.startswith("{"):
                args[wanted[1:-1]] = given
            elif wanted != given:
                break
        else:
            return route, args
    return None


def _add(args: dict[str, Any], more: Mapping[str, Any] | Sequence[tuple[str, str]]) -> None:
    for name, value in more.items() if isinstance(more, Mapping) else more:
        if name in args:
            # Which of the two the service reads is its secret.
            raise NotAdmitted("invalid_request", "An argument is given twice.", status=403)
        args[name] = value


def _problem(refused: WardgateError) -> CallProblem:
    shown = refused.message if isinstance(refused, NotAdmitted) else ""
    waits = round(refused.retry_after * 1000) if isinstance(refused, Overloaded) else None
    return replies.said(refused.code, shown, status=problems.status_of(refused), retry_after_ms=waits)


def _no(problem: CallProblem) -> Response:
    """A refusal in a status Envoy passes on: 401, 403, or 503 when it was not decided at all."""
    status = 503 if problem.status >= 500 else problem.status
    body = problem.model_copy(update={"status": status if status in _CODES else 403})
    headers = {"x-wardgate-reason": body.code}
    if body.decision_id is not None:
        headers["x-wardgate-decision-id"] = body.decision_id
    return replies.respond(replies.of_problem(body), headers=headers)
