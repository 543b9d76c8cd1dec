"""What is wrong with a policy, where, and what to do: one list of kinds for messages, JSON and SARIF."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.errors import ConfigError


class Kind(msgspec.Struct, frozen=True):
    title: str
    remedy: str


KINDS: Final[dict[str, Kind]] = {
    "unreadable": Kind("A file cannot be read", "Save it as UTF-8, readable, and below the size limit."),
    "parse-error": Kind("The file is not valid Rego v1", "Correct the syntax at this line."),
    "metadata": Kind("METADATA is missing or wrong", "Give id, title, owner, severity and codes."),
    "duplicate": Kind("Two modules share a package or an id", "Give each module its own."),
    "package": Kind("The package has another name than a rule's", "Name it 'wardgate.rules.<name>'."),
    "no-rules": Kind("There is no rule module", "Run 'wardgate policy init', or set 'policy.pack: starter'."),
    "contribution": Kind(
        "What the module contributes has no effect",
        "Define 'deny contains {…} if …' in a phase that takes it.",
    ),
    "unknown-input": Kind(
        "A path is not in the input, or not in this phase",
        "See the table of paths in docs/reference/policy.md, or the JSON Schema at /v1/policy/schema.",
    ),
    "input-type": Kind(
        "A comparison with the input that can never hold",
        "Compare with a value the schema of the input allows.",
    ),
    "unknown-data": Kind("Data that is given nowhere", "Add it to a data.yaml, or correct the path."),
    "other-rule": Kind("A rule reads another rule", "Move what they share into a library package."),
    "forbidden-builtin": Kind("A built-in that is refused", "Use what docs/reference/policy.md says."),
    "unknown-builtin": Kind("Not a built-in and not a function", "Correct the name, or define the function."),
    "engine-differs": Kind("The engines would answer differently", "Write it as the message says."),
    "regex": Kind("Not an RE2 expression", "Write it without look-around and back-references."),
    "with": Kind("'with' outside tests", "Take the value from the input or the data."),
    "data": Kind("The data is not usable", "Correct the data file."),
    "monitor": Kind("A monitor is not usable", "Correct it; docs/reference/monitors.md has every template."),
    "scope": Kind("The scope of a module is wrong", "Correct its METADATA, or the data it refers to."),
    "evaluation": Kind("The module cannot be evaluated", "Correct the rule the message names."),
    "missing-test": Kind("A rule without a test", "Name it in a *_test.rego or a *_cases.yaml beside it."),
    "missing-description": Kind("A rule without a description", "Say in METADATA what it is for."),
}
"""Every kind of problem with its title and remedy; the id is what SARIF calls a rule."""

WARNINGS: Final = frozenset({"missing-test", "missing-description"})
"""Kinds that do not keep a policy from being loaded."""


class Problem(msgspec.Struct, frozen=True):
    file: str
    line: int
    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"

    @property
    def warning(self) -> bool:
        return self.kind in WARNINGS


class InvalidPolicy(ConfigError):
    """A policy that is not loaded; ``problems`` says why, each with its place."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("the policy cannot be loaded:\n" + "\n".join(f"  {item}" for item in problems))
        self.problems = tuple(problems)
