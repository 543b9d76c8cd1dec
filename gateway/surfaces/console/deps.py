"""What the console needs from the gateway beside what the admin API needs, filled in by ``app.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from gateway.approvals.lookup import Narrow
from gateway.model import Operator
from gateway.surfaces.admin.deps import AdminDeps
from gateway.surfaces.console.signin import SignIn


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How people sign in, as configured."""

    url: str | None = None  # where people reach it from outside
    life_s: float = 8 * 3600.0
    idle_s: float = 3600.0


class SignIns(Protocol):
    """Sign-ins that were ended before their time. Both methods block."""

    def ended(self, sign_in: str) -> bool: ...

    def end(self, sign_in: str, until_ns: int, now_ns: int) -> None: ...


class Person(Protocol):
    @property
    def tenant(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def credential(self) -> str: ...


class People(Protocol):
    """An identity provider at which people sign in. Both raise ``Unauthenticated``."""

    @property
    def title(self) -> str: ...

    async def begin(self, redirect: str, state: str, nonce: str, verifier: str) -> str: ...

    async def finish(self, redirect: str, code: str, nonce: str, verifier: str) -> Person: ...


class Look(Protocol):
    """Reads for pages; see ``gateway/looking.py`` for what comes back. Those that are not async block."""

    def pulse(self, tenant: str) -> tuple[Mapping[str, int], int]: ...

    async def page(
        self, operator: Operator, narrow: Narrow, *, newest: bool, limit: int, after: str
    ) -> Mapping[str, Any]: ...

    async def around(self, operator: Operator, approval_id: str) -> Mapping[str, Any]: ...

    async def explain(self, tenant: str, call_id: str) -> Mapping[str, Any]: ...

    def agents(self, tenant: str) -> Sequence[Mapping[str, Any]]: ...

    def modules(self) -> Sequence[Mapping[str, Any]]: ...

    def module(self, module_id: str) -> Mapping[str, Any] | None: ...

    def definition(self, kind: str, target: str) -> Mapping[str, Any] | None: ...


class ConsoleDeps(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the console calls."""

    admin: AdminDeps
    key: bytes  # 32 bytes that seal sign-ins
    now_ns: Callable[[], int]
    terms: Callable[[], Terms]
    holder: Callable[[SignIn], Operator]  # as their credential is now; raises Unauthenticated
    sign_ins: SignIns
    look: Look
    people: Callable[[], People | None] = lambda: None  # an identity provider, when one is configured
