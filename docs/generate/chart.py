"""Writes what of the Helm chart comes from elsewhere: ``make docs``.

- ``values.schema.json`` from ``helm/schema.yaml`` and the gateway's own schema, so that a misspelt key of
  ``config`` is refused before anything reaches a cluster;
- ``files/supports.yaml``, which of the chart's engines the gateway of this version has;
- ``files/rules`` and ``files/dashboards``, copied from ``observability/``;
- ``README.md`` from ``helm/README.head.md`` and the comments of ``values.yaml``.

``tests/helm`` fails when a file is not what this writes.
"""

from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from gateway.config import Config, StorageConfig

ROOT: Final = Path(__file__).parents[2]
HELM: Final = ROOT / "helm"
CHART: Final = HELM / "wardgate"

OWNED: Final = {
    "ServerConfig": ("host", "port", "admin_host", "admin_port"),
    "StorageConfig": ("path", "key_file", "url"),
    "PolicyConfig": ("path", "pack", "engine", "opa"),
}
"""Settings of the gateway that follow from the chart's own values."""


def main() -> None:
    for name, text in files().items():
        path = CHART / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"helm/wardgate/{name}\n")


def files() -> dict[str, str]:
    """Each generated file of the chart, by its path there, as it should be."""
    return {
        "values.schema.json": json.dumps(schema(), indent=1, sort_keys=True) + "\n",
        "files/supports.yaml": yaml.safe_dump(supports()),
        "README.md": readme(),
        **copied(),
    }


def supports() -> dict[str, bool]:
    """What the chart may offer. Several replicas need hot state that they share."""
    redis = "state" in Config.model_fields
    postgresql = "url" in StorageConfig.model_fields
    return {
        "console": "console" in Config.model_fields,
        "postgresql": postgresql,
        "redis": redis,
        "replicas": redis and postgresql,
    }


def schema() -> dict[str, Any]:
    whole = yaml.safe_load((HELM / "schema.yaml").read_text(encoding="utf-8"))["values"]
    closed = _closed(copy.deepcopy(whole))
    own = Config.model_json_schema()
    definitions = own.pop("$defs")
    for name, keys in OWNED.items():
        for key in keys:
            definitions[name]["properties"].pop(key, None)
    definitions["Config"] = own
    closed["$defs"] = {name: _without_titles(each) for name, each in definitions.items()}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **closed}


def _closed(node: Any) -> Any:
    """Objects that name their properties have no others."""
    if isinstance(node, dict):
        if node.get("type") == "object" and "properties" in node:
            node.setdefault("additionalProperties", False)
        return {key: _closed(each) for key, each in node.items()}
    return [_closed(each) for each in node] if isinstance(node, list) else node


def _without_titles(node: Any) -> Any:
    """The titles pydantic gives repeat the names."""
    if isinstance(node, dict):
        return {k: _without_titles(v) for k, v in node.items() if k != "title" or not isinstance(v, str)}
    return [_without_titles(each) for each in node] if isinstance(node, list) else node


def copied() -> dict[str, str]:
    """Rules and dashboards, when there are any."""
    found = {}
    for kind, pattern in (("dashboards", "*.json"), ("rules", "*.y*ml")):
        for path in sorted((ROOT / "observability").rglob(f"{kind}/{pattern}")):
            found[f"files/{kind}/{path.name}"] = path.read_text(encoding="utf-8")
    return found


def readme() -> str:
    head = (HELM / "README.head.md").read_text(encoding="utf-8")
    rows = [f"| `{key}` | `{_shown(default)}` | {text} |" for key, default, text in settings()]
    return "\n".join([head, "| key | default | |", "|---|---|---|", *rows]) + "\n"


def _shown(value: Any) -> str:
    return json.dumps(value).replace("|", "\\|")


def settings() -> Iterator[tuple[str, Any, str]]:
    """Key, default and description of each value, from ``values.yaml`` and its comments."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    defaults = yaml.safe_load(text)
    parents: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith("# -- "):
            comment = [bare.removeprefix("# -- ")]
        elif bare.startswith("#"):
            if comment:
                comment.append(bare.removeprefix("#").strip())
        elif match := re.match(r"( *)([A-Za-z]+):", line):
            depth, key = len(match[1]), match[2]
            parents = [each for each in parents if each[0] < depth]
            path = [*(name for _, name in parents), key]
            if comment:
                default = defaults
                for part in path:
                    default = default[part]
                yield ".".join(path), default, " ".join(comment)
            else:
                parents.append((depth, key))
            comment = []


if __name__ == "__main__":
    main()
