"""Which label values may appear in metrics.

A time series lives as long as the process, so a value an agent or an upstream can choose freely is a way to
fill the memory of the gateway and of Prometheus behind it. Only values somebody *declared* (configuration,
catalog, policy bundle) are shown, up to a cap; everything else is ``_other``, and how often that happened is
counted. The idea is Caddy's (``modules/caddyhttp/metrics.go``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Generic, Protocol, TypeVar

OTHER: Final = "_other"

K = TypeVar("K", bound=str | tuple[str, str])


class _Counted(Protocol):
    value: float


class Guard(dict[K, K], Generic[K]):
    """Maps a name to itself when it was declared and fits under ``cap``, else to ``other``.

    A dict, because the lookup happens several times a call; only the first miss costs more than a hit.
    """

    def __init__(self, cap: int, other: K, collapsed: _Counted) -> None:
        super().__init__()
        self.cap = cap
        self.other = other
        self._collapsed = collapsed

    def __missing__(self, name: K) -> K:
        self._collapsed.value += 1  # not stored: an undeclared name must not take memory either
        return self.other

    def declare(self, names: Iterable[K]) -> list[K]:
        """Replace the declared names; returns those that went, so that their series can be dropped.

        Names that stay keep their place, so that a reload does not make a known series jump to ``_other``.
        """
        wanted = dict.fromkeys(names)
        gone = [name for name in self if name not in wanted]
        for name in gone:
            del self[name]
        for name in wanted:
            if len(self) >= self.cap:
                break
            self[name] = name
        return gone
