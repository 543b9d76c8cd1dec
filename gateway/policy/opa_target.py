"""Where an OPA is, and what it may answer other than an answer. Imports no HTTP client: few need one."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self

import msgspec


class Settings(Protocol):
    """The section ``policy.opa`` of the configuration."""

    @property
    def url(self) -> str | None: ...
    @property
    def socket(self) -> Path | None: ...
    @property
    def ca_file(self) -> Path | None: ...
    @property
    def token_file(self) -> Path | None: ...
    @property
    def token_env(self) -> str | None: ...
    @property
    def deadline_ms(self) -> int: ...


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One OPA and how it is asked: by ``url`` or by ``socket``."""

    url: str = ""
    socket: Path | None = None
    ca_file: Path | None = None
    token_file: Path | None = None
    token_env: str | None = None
    deadline_s: float = 0.2

    def __str__(self) -> str:
        return f"unix:{self.socket}" if self.socket is not None else self.url

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            url=settings.url or "",
            socket=settings.socket,
            ca_file=settings.ca_file,
            token_file=settings.token_file,
            token_env=settings.token_env,
            deadline_s=settings.deadline_ms / 1000,
        )


class OpaFault(Exception):
    """OPA gave no answer to go by; ``code`` is the reason code."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class EvaluationError(Exception):
    """OPA answered that evaluating failed: at which place, and how."""

    def __init__(self, file: str, line: int, said: str) -> None:
        super().__init__(said)
        self.file = file
        self.line = line
