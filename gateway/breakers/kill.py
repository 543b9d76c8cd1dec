"""The kill switch: what a person stopped, from one call to everything, until a person lifts it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal, get_args

import msgspec

from gateway.breakers.breakers import Asking

KillScope = Literal["call", "session", "agent", "tool", "upstream", "tenant", "all"]
KILL_SCOPES: Final[tuple[KillScope, ...]] = get_args(KillScope)


class Kill(msgspec.Struct, frozen=True, kw_only=True):
    """``tenant`` is "" only of ``all``; ``name`` is the id or name of what is stopped, "" of a tenant."""

    id: str
    scope: KillScope
    tenant: str
    name: str
    reason: str
    by: str
    at_ns: int

    @property
    def words(self) -> str:
        return {"all": "Everything", "tenant": "All work of this tenant"}.get(
            self.scope, f"This {self.scope}"
        )


class Kills:
    """Those in force, by what they stop."""

    def __init__(self, kills: Iterable[Kill] = ()) -> None:
        self._by: dict[tuple[str, str, str], Kill] = {}
        for kill in kills:
            self._by.setdefault((kill.scope, kill.tenant, kill.name), kill)

    def __len__(self) -> int:
        return len(self._by)

    def __iter__(self) -> Iterator[Kill]:
        return iter(list(self._by.values()))

    def of(self, asking: Asking) -> Kill | None:
        """The widest one that stops this call."""
        if not self._by:
            return None
        tenant = asking.tenant
        for key in (
            ("all", "", ""), ("tenant", tenant, ""), ("upstream", tenant, asking.upstream),
            ("tool", tenant, asking.tool), ("agent", tenant, asking.agent),
            ("session", tenant, asking.session), ("call", tenant, asking.call_id),
        ):  # fmt: skip
            if (found := self._by.get(key)) is not None:
                return found
        return None
