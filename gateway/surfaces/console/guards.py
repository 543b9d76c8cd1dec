"""What every answer of the console carries, and which requests it takes at all."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import Refused

MAX_FORM: Final = 512 * 1024
_MAX_FIELDS: Final = 2_000

CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = (
    (b"content-security-policy", CSP.encode()),
    # Not "no-referrer": a browser then sends "Origin: null" with our own forms.
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)


class Headers:
    """Adds them to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def same_origin(request: Request) -> None:
    """Raise unless a write comes from one of our own pages.

    A page elsewhere can make a browser send a form with our cookie. Browsers say where a request comes from
    in ``Sec-Fetch-Site``, which no page can set; over plain http to a name they leave it out, and then their
    ``Origin`` must be ours (that it is not somebody else's, ``Hosts`` has looked at before).
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        if site != "same-origin":
            raise Refused("origin_refused", f"sec-fetch-site: {site[:20]}")
    elif request.headers.get("origin") is None:
        raise Refused("origin_refused", "neither sec-fetch-site nor origin")


def is_https(request: Request, url: str | None) -> bool:
    """Whether the browser speaks https to us, or to the proxy before us."""
    if url is not None and url.startswith("https:"):
        return True
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https:")


class Form:
    """The fields of a form; ``many`` gives all values of one."""

    def __init__(self, fields: dict[str, list[str]]) -> None:
        self._fields = fields

    def get(self, name: str, default: str = "") -> str:
        """The last value, with the line ends that people mean rather than those of the wire."""
        found = self._fields.get(name)
        return found[-1].replace("\r\n", "\n") if found else default

    def many(self, name: str) -> list[str]:
        return self._fields.get(name, [])

    def __contains__(self, name: str) -> bool:
        return name in self._fields


async def form(request: Request) -> Form:
    """A form as browsers send it, bounded; raises ``Refused``."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Refused("invalid_request", "not a form")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM:
            raise Refused("too_large")
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError as error:  # UnicodeDecodeError is one
        raise Refused("invalid_request", "not a form") from error
    return Form(fields)
