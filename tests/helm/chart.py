"""The chart as a real Helm renders it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "wardgate"
EXAMPLES = sorted((CHART / "ci").glob("*-values.yaml"))
NAMESPACE = "guard-ns"

LEAST: dict[str, Any] = {
    "image": {"repository": "registry.example.com/wardgate"},
    "secrets": {"existingSecret": "wardgate-storage"},
    "policy": {"pack": "starter"},
}
"""What every installation must say."""


class Refused(Exception):
    """Helm would not render; the text is what it says."""


def helm(*arguments: str, values: dict[str, Any] | None = None) -> str:
    if values is not None:
        arguments = (*arguments, "--values", "-")
    done = subprocess.run(
        ["helm", *arguments],
        input=json.dumps(values) if values is not None else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def render(values: dict[str, Any] | Path, chart: Path = CHART, *, release: str = "wardgate") -> Manifests:
    """All objects, hooks included."""
    if isinstance(values, Path):
        values = yaml.safe_load(values.read_text(encoding="utf-8"))
    text = helm("template", release, str(chart), "--namespace", NAMESPACE, values=values)
    return Manifests([each for each in yaml.safe_load_all(text) if each])


def with_values(*, over: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The least values with others laid over, key by key."""
    return _merged(LEAST, {**more, **(over or {})})


def _merged(base: Any, over: Any) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        keys = {**base, **over}
        return {key: _merged(base.get(key), over[key]) if key in over else base[key] for key in keys}
    return over


class Manifests(list[dict[str, Any]]):
    def of(self, kind: str) -> list[dict[str, Any]]:
        return [each for each in self if each["kind"] == kind]

    def one(self, kind: str, name: str | None = None) -> dict[str, Any]:
        (found,) = [each for each in self.of(kind) if name in (None, each["metadata"]["name"])]
        return found

    @property
    def pod(self) -> dict[str, Any]:
        """The gateway's pod template."""
        return self.one("Deployment")["spec"]["template"]

    @property
    def pods(self) -> list[dict[str, Any]]:
        """Every pod there can be: the gateway's and those of 'helm test'."""
        return [self.pod, *self.of("Pod")]

    @property
    def gateway(self) -> dict[str, Any]:
        (container,) = [each for each in self.pod["spec"]["containers"] if each["name"] == "wardgate"]
        return container

    @property
    def config(self) -> str:
        return next(
            each["data"]["wardgate.yaml"] for each in self.of("ConfigMap") if "wardgate.yaml" in each["data"]
        )


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
