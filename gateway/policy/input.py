"""Building the policy input from a call and its facts, only as far as it is read.

``Sections`` of one set of modules is made once per scope group. Tools are encoded once and spliced in;
everything else is small.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from gateway import output_schema, strictjson
from gateway.model import Call, Facts, Outcome, Principal, Tool
from gateway.policy.contract import FACTS, VERSION, Path
from gateway.policy.project import Tree, project, tree

_KEPT_TOOLS: Final = 16_384


class Sections:
    """Encodes the input for modules that read ``paths``."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._tree: Tree = tree(paths)
        self._call: Tree = self._tree.get("call") or {}
        self._facts = tuple(name for name in FACTS if name in self._tree)
        self._tools: dict[int, tuple[Tool, orjson.Fragment]] = {}

    def encode(self, call: Call, facts: Facts, outcome: Outcome | None = None) -> bytes:
        """The input of phases ``call`` and ``result`` as JSON."""
        wanted = self._tree
        doc = self._slow(call.principal, call.tool, facts)
        if self._call:
            doc["call"] = {
                name: _below(_CALL[name](call, facts), below) for name, below in self._call.items()
            }
        if "stale" in wanted:
            doc["stale"] = facts.stale
        if "time" in wanted:
            doc["time"] = call.received_ns
        if "result" in wanted and outcome is not None:
            doc["result"] = _result(call.tool, outcome, wanted["result"])
        return orjson.dumps(doc)

    def encode_listed(self, principal: Principal, tool: Tool, facts: Facts) -> bytes:
        """The input of phase ``list``: no call yet, and answers are kept by slow facts alone."""
        return orjson.dumps(self._slow(principal, tool, Facts(slow=facts.slow)))

    def _slow(self, principal: Principal, tool: Tool, facts: Facts) -> dict[str, Any]:
        wanted = self._tree
        doc: dict[str, Any] = {}
        if "version" in wanted:
            doc["version"] = VERSION
        if "tool" in wanted:
            doc["tool"] = self._tool(tool)
        if "agent" in wanted:
            doc["agent"] = project(_agent(principal), wanted["agent"])
        if "chain" in wanted:
            doc["chain"] = principal.chain
        if "environment" in wanted:
            doc["environment"] = principal.environment
        for name in self._facts:
            source = facts.slow if name in facts.slow else facts.fast
            if name in source:
                doc[name] = project(source[name], wanted[name])
        return doc

    def _tool(self, tool: Tool) -> orjson.Fragment:
        kept = self._tools.get(id(tool))
        # The tool is held beside its encoding, so its id cannot come to mean another one.
        if kept is not None and kept[0] is tool:
            return kept[1]
        encoded = orjson.dumps(project(_manifest(tool), self._tree["tool"]))
        fragment = orjson.Fragment(bytes(memoryview(encoded)))  # a copy: orjson's hold 2 KB for 300 B
        if len(self._tools) >= _KEPT_TOOLS:
            self._tools.clear()
        self._tools[id(tool)] = (tool, fragment)
        return fragment


def _below(value: Any, wanted: Tree | None) -> Any:
    return value if wanted is None else project(value, wanted)


_CALL: Final[Mapping[str, Any]] = {
    "kind": lambda call, _: call.tool.kind,
    "target": lambda call, _: call.tool.target,
    "args": lambda call, _: call.args,
    "text": lambda call, _: "\n".join(strings(call.args)),
    "digest": lambda call, _: call.digest,
    "provenance": lambda _, facts: facts.provenance,
    "addressed": lambda _, facts: facts.addressed,
    "session": lambda call, _: call.session,
    "surface": lambda call, _: call.surface,
    "modified": lambda call, _: bool(call.modified_from),
}


def _agent(principal: Principal) -> dict[str, Any]:
    agent = {
        "id": principal.agent,
        "owner": principal.owner,
        "tenant": principal.tenant,
        "labels": principal.labels,
    }
    if principal.subject is not None:  # null would be a defined value in Rego, and "not …subject" false
        agent["subject"] = principal.subject
    return agent


def _manifest(tool: Tool) -> dict[str, Any]:
    manifest = tool.manifest
    return {
        "kind": tool.kind,
        "upstream": tool.upstream,
        "name": tool.name,
        "target": tool.target,
        "risk": manifest.risk,
        "effects": manifest.effects,
        "domain": manifest.domain,
        "idempotent": manifest.idempotent,
        "cost_micro_usd": manifest.cost_micro_usd,
        "integrity": manifest.integrity,
        "confidentiality": manifest.confidentiality,
        "polling": manifest.polling,
        "source": manifest.source,
        "pin": {"state": tool.pin.state, "flags": tool.pin.flags},
        "extra": manifest.extra,
    }


def _result(tool: Tool, outcome: Outcome, wanted: Tree | None) -> dict[str, Any]:
    # Strictly: of a key given twice the rule would judge one value, and the agent might read the other.
    value = strictjson.parse(outcome.result_json or outcome.error_json or b"null")
    result = {"status": outcome.status, "value": value}
    if wanted is None or "text" in wanted:
        result["text"] = "\n".join(strings(value))
    if wanted is None or "schema" in wanted:
        result["schema"] = output_schema.fit(tool, outcome, value)
    return project(result, wanted)  # type: ignore[no-any-return]  # a dict projects to a dict


def strings(value: Any) -> list[str]:
    """All strings of a JSON value, keys too, in order."""
    found: list[str] = []
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, dict):
            stack.extend(part for pair in reversed(item.items()) for part in reversed(pair))
        elif isinstance(item, list):
            stack.extend(reversed(item))
    return found
