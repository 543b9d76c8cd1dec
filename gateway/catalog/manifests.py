"""From what the operator says (and, where allowed, what the upstream hints) to a manifest.

Silence is not trust: a tool that nobody described is ``irreversible``. Hints of the upstream are the words
of the party that is being judged, so ``readOnlyHint`` counts only where the operator said ``trust_hints``
and gave no risk of their own (MCP 2026-07-28, server/tools: annotations are untrusted).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import re2

from gateway.config_upstream import ToolConfig, UpstreamConfig
from gateway.model import QUESTIONS, Cost, Json, Kind, Manifest

_QUESTION: Final = ToolConfig(effects=("ask", "egress"))


class Manifests:
    """The operator's manifests of one upstream: an exact name beats the longest glob."""

    def __init__(self, config: UpstreamConfig) -> None:
        self._config = config
        self._exact = {name: tool for name, tool in config.tools.items() if "*" not in name}
        globs = sorted((name for name in config.tools if "*" in name), key=len, reverse=True)
        self._globs = [(_regex(glob), config.tools[glob]) for glob in globs]

    def of(self, kind: Kind, name: str, annotations: Json = None) -> Manifest:
        """The manifest of one entry. Prompts, resources and completions are reads.

        A question to the client changes nothing either, but its answer leaves for the upstream.
        """
        if name in QUESTIONS and kind == QUESTIONS[name]:
            return self._manifest(self._exact.get(name) or _QUESTION, "read", "default")
        if kind != "tool":
            return Manifest(risk="read", effects=("read",), deadline_s=self._config.deadline_s)
        said = self._said(name)
        if said is not None and said.risk is not None:
            return self._manifest(said, said.risk, "operator")
        hinted = isinstance(annotations, Mapping) and annotations.get("readOnlyHint") is True
        if hinted and self._config.trust_hints:
            return self._manifest(said or ToolConfig(), "read", "hint")
        return self._manifest(said or ToolConfig(), "irreversible", "default")

    def unused(self, names: set[str]) -> list[str]:
        """Exact names that the upstream does not list: a typing error here leaves a tool undescribed."""
        return sorted(name for name in self._exact if name not in names and name not in QUESTIONS)

    def _said(self, name: str) -> ToolConfig | None:
        exact = self._exact.get(name)
        if exact is not None:
            return exact
        return next((tool for pattern, tool in self._globs if pattern.fullmatch(name)), None)

    def _manifest(self, said: ToolConfig, risk: str, source: str) -> Manifest:
        return Manifest(
            risk=risk,  # type: ignore[arg-type]  # one of RiskName, checked by the configuration
            effects=said.effects or (("read",) if risk == "read" else ("write",)),
            domain=said.domain,
            idempotent=said.idempotent,
            effect_key=said.effect_key,
            cost_micro_usd=said.cost_micro_usd,
            cost=Cost(**said.cost.model_dump()) if said.cost is not None else None,
            deadline_s=said.deadline_s or self._config.deadline_s,
            integrity=said.integrity,
            confidentiality=said.confidentiality,
            trusted_fields=said.trusted_fields,
            untrusted_fields=said.untrusted_fields,
            sinks=said.sinks,
            sensitive=said.sensitive,
            polling=said.polling,
            interruptible=risk == "read" if said.interruptible is None else said.interruptible,
            verify=said.verify.made if said.verify is not None else None,
            reconcile=said.reconcile.made if said.reconcile is not None else None,
            extra=said.extra,
            source=source,  # type: ignore[arg-type]  # one of its three words, see the callers
        )


def _regex(glob: str) -> Any:
    """``*`` stands for any characters, everything else for itself; RE2, since upstreams choose the names."""
    return re2.compile("(?s)" + ".*".join(re2.escape(part) for part in glob.split("*")))
