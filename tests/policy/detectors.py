"""What the detectors of the library say about a corpus: benign calls and results, and attacks.

Detectors are the modules that look for forms (hazards, secrets, personal data, marks of injection). They are
asked alone, so that no other rule hides what they say.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from gateway.model import Facts, Outcome
from gateway.policy import EmbeddedPolicy, load
from tests.policy.helpers import call, decide, tool

CORPUS: Final = Path(__file__).with_name("corpus")
MODULES: Final = frozenset(
    {
        "hazard_shell", "hazard_sql", "hazard_paths", "secrets_egress", "personal_data_egress",
        "secrets_redact", "personal_data_redact", "injection_markers",
    }
)  # fmt: skip
CAUGHT: Final = {
    "shell": {"hazardous_command"},
    "sql": {"hazardous_sql"},
    "path": {"sensitive_path"},
    "secret": {"secret_in_arguments"},
    "personal": {"personal_data_refused", "personal_data_needs_person"},
    "injection": {"injection"},
    "secret in a result": {"redacted"},
}


class Detector(msgspec.Struct, frozen=True):
    """Figures of one kind; ``missed`` lists what passed, ``alarms`` what should not have been stopped."""

    caught: int
    missed: tuple[str, ...]
    alarms: tuple[str, ...]

    @property
    def recall(self) -> float:
        return self.caught / (self.caught + len(self.missed))

    @property
    def precision(self) -> float:
        return self.caught / (self.caught + len(self.alarms))


def detectors() -> EmbeddedPolicy:
    bundle = load(None, "strict").bundle
    rules = tuple(rule for rule in bundle.rules if rule.package.rsplit(".", 1)[1] in MODULES)
    assert len(rules) == len(MODULES)
    return EmbeddedPolicy(msgspec.structs.replace(bundle, rules=rules))


def evaluate() -> dict[str, Detector]:
    policy = detectors()
    caught: dict[str, int] = dict.fromkeys(CAUGHT, 0)
    missed: dict[str, list[str]] = {kind: [] for kind in CAUGHT}
    alarms: dict[str, list[str]] = {kind: [] for kind in CAUGHT}
    for kind, text, said in _attacks(policy):
        if CAUGHT[kind] & said:
            caught[kind] += 1
        else:
            missed[kind].append(text)
    for text, said in _benign(policy):
        for kind, codes in CAUGHT.items():
            if codes & said:
                alarms[kind].append(text)
    return {kind: Detector(caught[kind], tuple(missed[kind]), tuple(alarms[kind])) for kind in CAUGHT}


def sizes() -> tuple[int, int]:
    """Benign cases and attacks."""
    benign, attacks = _read("benign"), _read("attacks")
    return len(benign["calls"]) + len(benign["results"]), sum(map(len, attacks.values()))


def _read(name: str) -> Any:
    return yaml.safe_load((CORPUS / f"{name}.yaml").read_text(encoding="utf-8"))


_ATTACK_CALLS: Final = {
    "shell": ("terminal/run_command", (), "command"),
    "sql": ("postgres/query", (), "sql"),
    "path": ("filesystem/read_file", (), "path"),
    "secret": ("email/send_email", ("egress",), "body"),
    "personal": ("email/send_email", ("egress",), "body"),
}


def _attacks(policy: EmbeddedPolicy) -> Iterator[tuple[str, str, set[str]]]:
    for kind, items in _read("attacks").items():
        for item in items:
            if kind == "injection":
                yield kind, item, result(policy, f"The page says:\n{item}\nEnd of page.")
                continue
            target, effects, argument = _ATTACK_CALLS[kind]
            body = f"Hello,\nas agreed: {item}\nRegards" if argument == "body" else item
            yield kind, str(item), codes(policy, target, effects, {argument: body})
            if kind == "secret":
                yield "secret in a result", item, result(policy, f"config:\n{item}\nend")


def _benign(policy: EmbeddedPolicy) -> Iterator[tuple[str, set[str]]]:
    benign = _read("benign")
    for target, effects, args in benign["calls"]:
        yield f"{target} {json.dumps(args)}", codes(policy, target, tuple(effects), args)
    for text in benign["results"]:
        yield text, result(policy, text)


def codes(policy: EmbeddedPolicy, target: str, effects: tuple[str, ...], args: dict[str, Any]) -> set[str]:
    decision = decide(policy, call(args, on=tool(target, risk="irreversible", effects=effects)))
    return {finding.code for finding in decision.findings} - {"no_rule_allows"}


def result(policy: EmbeddedPolicy, text: str) -> set[str]:
    outcome = Outcome(
        status="ok", result_json=json.dumps({"content": [{"type": "text", "text": text}]}).encode()
    )
    asked = call({}, on=tool("web/read_page", risk="read", confidentiality=2))
    shown = asyncio.run(policy.result(asked, Facts(), outcome))
    changed = shown.result_json != outcome.result_json or shown.decision.verdict != "allow"
    return {*shown.decision.labels, *({"redacted"} if changed else ())}
