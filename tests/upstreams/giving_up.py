"""A client that gives a call up, for peers that take no part in a dialogue otherwise."""

from __future__ import annotations

from collections.abc import Callable


class Client:
    """Implements as much of ``ports.Dialogue`` as such a peer touches."""

    rounds = False

    def __init__(self, *, cancelled: bool = False) -> None:
        self.cancelled = cancelled
        self.hook: Callable[[], None] | None = None

    def give_up(self) -> None:
        self.cancelled = True
        if self.hook is not None:
            self.hook()
