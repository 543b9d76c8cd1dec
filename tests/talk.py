"""The client's side of a call, as an upstream sees it, for tests that have no surface."""

from __future__ import annotations

from collections.abc import Callable

from gateway.ports import Unanswered


class Talk:
    """Implements ``ports.Dialogue``: keeps what it is told, and answers from a script."""

    def __init__(
        self,
        answers: dict[str, bytes | str] | None = None,
        *,
        rounds: bool = False,
        cancelled: bool = False,
    ) -> None:
        self.answers = answers or {}  # by method: JSON, or the code of a refusal
        self.rounds = rounds
        self.cancelled = cancelled
        self.severable = True
        self.hook: Callable[[], None] | None = None
        self.notes: list[bytes] = []
        self.asked: list[tuple[str, bytes]] = []

    async def notify(self, message: bytes) -> None:
        self.notes.append(message)

    async def ask(self, method: str, params_json: bytes) -> bytes:
        self.asked.append((method, params_json))
        answer = self.answers.get(method, "unknown_method")
        if isinstance(answer, str):
            raise Unanswered(answer)
        return answer

    def cancel(self) -> None:
        self.cancelled = True
        if self.hook is not None:
            self.hook()
