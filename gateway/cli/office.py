"""The admin port as a person's commands ask it: with their own operator key, and plain words for a refusal.

Nobody decides by having the database file, so what is somebody's decision or signature goes this way.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Final, NoReturn

import typer

from gateway.cli.output import NOT_DONE, NOT_FOUND, UNREACHABLE, fail, printable

KEY: Final = "WARDGATE_OPERATOR_KEY"
DEFAULT_URL: Final = "http://127.0.0.1:8701"
Url = Annotated[str, typer.Option("--url", envvar="WARDGATE_ADMIN_URL", help="The gateway's admin port.")]


class Office:
    """The admin port, with the reviewer's key."""

    def __init__(self, url: str) -> None:
        import httpx

        key = os.environ.get(KEY, "")
        if not key:
            fail(
                f"There is no key in {KEY}.",
                "'wardgate keys new --operator NAME --role approver' makes one.",
            )
        loopback = httpx.URL(url).host in ("127.0.0.1", "localhost", "::1")
        if httpx.URL(url).scheme != "https" and not loopback:
            fail(f"{url} is not https, so the key would travel in the clear.")
        headers = {"authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=15, trust_env=False)
        self._url = url

    def get(self, path: str, **query: Any) -> Any:
        return self._said(
            "GET", path, params={name: each for name, each in query.items() if each is not None}
        )

    def post(self, path: str, body: dict[str, Any], version: int | None) -> Any:
        headers = {} if version is None else {"if-match": f'"{version}"'}
        return self._said("POST", path, json=body, headers=headers)

    def _said(self, method: str, path: str, **more: Any) -> Any:
        import httpx

        try:
            answer = self._http.request(method, path, **more)
            said = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            fail(
                f"The gateway at {self._url} does not answer: {type(error).__name__}.",
                "Is it running? --url names its admin port.",
                UNREACHABLE,
            )
        if not answer.is_success:
            _refused(said)
        return said


def _refused(said: dict[str, Any]) -> NoReturn:
    state = said.get("approval") or {}
    now = f" It is {state['state']} now, version {state['version']}." if state else ""
    code = NOT_FOUND if said.get("code") == "not_found" else NOT_DONE
    fail(printable(f"{said.get('detail', 'Refused.')}{now}"), printable(str(said.get("remedy", ""))), code)
