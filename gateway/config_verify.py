"""``verify`` of a tool: the read that says whether a call had the effect it was made for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from gateway.model import Reconcile, Verify
from gateway.section import Section
from gateway.sessions import reconcile
from gateway.sessions.verify import parse

if TYPE_CHECKING:
    from gateway.config_upstream import ToolConfig


class VerifyConfig(Section):
    """The read that says whether a call had its effect; see docs/how-to/verify-what-a-call-did.md."""

    tool: str = Field(description="Name of a read tool of the same upstream.")
    arguments: dict[str, Any] = Field(
        default_factory=dict,
        description="Arguments of the read; {arguments.id} and {result.id} are taken from the call.",
    )
    match: dict[str, Any] = Field(
        description="JSON pointers into what the read returns, and what must stand there: a value, or an "
        "object of equals, exists, one_of, min, max and pattern (RE2)."
    )
    after_s: float = Field(0.0, ge=0, le=300, description="Wait before the first read.")
    attempts: int = Field(3, ge=1, le=10, description="Reads at most, each after a longer wait.")
    within_s: float = Field(30.0, ge=1, le=600, description="Time from the answer of the call for all of it.")

    @property
    def made(self) -> Verify:
        return parse(self.model_dump())

    @model_validator(mode="after")
    def _meant(self) -> VerifyConfig:
        parse(self.model_dump())
        return self


class ReconcileConfig(Section):
    """What a call in doubt became, by a read; see docs/how-to/find-and-resolve-in-doubt-calls.md."""

    tool: str = Field(description="Name of a read tool of the same upstream.")
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="Arguments of the read; {arguments.id} is taken from the call."
    )
    done: dict[str, Any] = Field(
        description="JSON pointers into what the read returns, and what must stand there, as in `verify`, "
        "when the call had its effect."
    )
    not_done: dict[str, Any] = Field(
        default_factory=dict, description="The same when it had not; left out, only people can say that."
    )
    late_s: float = Field(
        60.0,
        ge=0,
        le=86_400,
        description="How long after the doubt began an effect may still appear; 'not done' is believed only "
        "after that.",
    )
    every_s: float = Field(30.0, ge=1, le=3_600, description="Between two reads; doubled after each.")
    attempts: int = Field(10, ge=1, le=100, description="Reads at most; then a person has to find out.")

    @property
    def made(self) -> Reconcile:
        return reconcile.parse(self.model_dump())

    @model_validator(mode="after")
    def _meant(self) -> ReconcileConfig:
        reconcile.parse(self.model_dump())
        return self


def check(tools: Mapping[str, ToolConfig], *, elsewhere: bool, hints: bool) -> None:
    """That only reads of the same upstream look back, and only at what may have an effect; ``ValueError``.

    ``hints``: a tool nobody gave a risk may turn out to be a read when the upstream is asked.
    """
    for name, tool in tools.items():
        for key, reader in tool.readers():
            where = f"tools.{name}.{key}"
            if elsewhere:
                raise ValueError(f"{where}: tools that run elsewhere cannot be asked what became of a call")
            if tool.risk == "read":
                raise ValueError(f"{where}: a read has no effect to {key}")
            said = tools.get(reader) or _by_glob(tools, reader)
            if said is not None and said.risk not in (None, "read"):
                raise ValueError(f"{where}: '{reader}' is {said.risk}; only a read may {key}")
            if (said is None or said.risk is None) and not hints:
                raise ValueError(f"{where}: only a read may {key}: describe '{reader}' with 'risk: read'")


def _by_glob(tools: Mapping[str, ToolConfig], name: str) -> ToolConfig | None:
    """As the catalog finds it: the longest glob wins."""
    for glob in sorted((glob for glob in tools if "*" in glob), key=len, reverse=True):
        if re.fullmatch(".*".join(map(re.escape, glob.split("*"))), name, re.DOTALL):
            return tools[glob]
    return None
