"""The chart as a real Helm renders it: valid, hardened, and refusing what does not fit together."""

from __future__ import annotations

import asyncio
import json
import os
import re
import runpy
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate import SchemaNotFoundError, ValidationError, utils

from gateway import __version__, watch
from gateway.config import Config, load
from gateway.policy.bundle import read_bundle
from tests.helm.chart import (
    CHART,
    EXAMPLES,
    LEAST,
    NAMESPACE,
    ROOT,
    Refused,
    containers,
    helm,
    render,
    with_values,
)
from tests.requires import requires

pytestmark = requires("helm")

KUBERNETES = [f"1.{minor}" for minor in range(30, 38)]
CUSTOM = {"ServiceMonitor", "PrometheusRule", "ScaledObject"}
"""Kinds of others, which Kubernetes has no schema of."""


@pytest.fixture(scope="module")
def rendered() -> dict[str, Any]:
    return {path.name: render(path) for path in EXAMPLES}


def everyone(rendered):
    return [(name, each) for name, manifests in rendered.items() for each in manifests]


# ----------------------------------------------------------------------------------------- what is rendered


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_pass_the_strict_linter(example):
    helm("lint", "--strict", "--quiet", str(CHART), "--values", str(example))


def test_objects_are_valid_in_every_supported_kubernetes(rendered, monkeypatch):
    # The package reads a file of megabytes for each reference it follows.
    monkeypatch.setattr(utils, "schema_contents", cache(utils.schema_contents))
    without_schema = set()
    different = {json.dumps(each, sort_keys=True): (name, each) for name, each in everyone(rendered)}
    for name, each in different.values():
        for version in KUBERNETES:
            try:
                kubernetes_validate.validate(each, version, strict=True)
            except SchemaNotFoundError:
                without_schema.add(each["kind"])
            except ValidationError as error:
                pytest.fail(f"{name}: {each['kind']} in {version}: {error}")
    assert without_schema <= CUSTOM


def test_the_validator_would_notice(rendered):
    deployment = json.loads(json.dumps(rendered["minimal-values.yaml"].one("Deployment")))
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}
    with pytest.raises(ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES[0], strict=True)


def test_the_oldest_kubernetes_is_the_one_that_is_tested():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["kubeVersion"] == f">={KUBERNETES[0]}.0-0"
    assert chart["appVersion"] == __version__
    with pytest.raises(Refused, match="incompatible with Kubernetes"):
        helm("template", "w", str(CHART), "--kube-version", "1.29.9", values=LEAST)


def test_every_container_can_do_nothing_but_run(rendered):
    for name, manifests in rendered.items():
        for pod in manifests.pods:
            spec = pod["spec"]
            assert spec["automountServiceAccountToken"] is False, name
            assert spec["enableServiceLinks"] is False
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["securityContext"]["runAsUser"] == 65532
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert not any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
            assert not any("hostPath" in volume for volume in spec.get("volumes", []))
            for container in containers(pod):
                context = container["securityContext"]
                assert context["allowPrivilegeEscalation"] is False
                assert context["capabilities"] == {"drop": ["ALL"]}
                assert context["privileged"] is False
                assert context["readOnlyRootFilesystem"] is True
                assert context["runAsNonRoot"] is True
                assert container["resources"]["limits"]["memory"]
                assert container["resources"]["requests"]["cpu"]


def test_every_image_is_of_a_fixed_version(rendered):
    for _, manifests in rendered.items():
        for pod in manifests.pods:
            for container in containers(pod):
                assert re.search(r"(:[\w.-]+|@sha256:[0-9a-f]{64})$", container["image"])
                assert not container["image"].endswith(":latest")


def test_probes_ask_the_admin_port_and_nothing_needs_a_shell(rendered):
    for _, manifests in rendered.items():
        for probe, path in (
            ("startupProbe", "/livez"),
            ("livenessProbe", "/livez"),
            ("readinessProbe", "/readyz"),
        ):
            assert manifests.gateway[probe]["httpGet"] == {"path": path, "port": "admin"}
        assert list(manifests.gateway["lifecycle"]["preStop"]) == ["sleep"]
        for pod in manifests.pods:
            for container in containers(pod):
                assert not re.search(r"\b(sh|bash)\b", " ".join(container.get("command", [])))


def test_services_lead_to_the_gateway_by_ports_that_have_names(rendered):
    for _, manifests in rendered.items():
        names = {each["name"] for each in manifests.gateway["ports"]}
        labels = manifests.pod["metadata"]["labels"]
        for service in manifests.of("Service"):
            assert service["spec"]["selector"].items() <= labels.items()
            assert {each["targetPort"] for each in service["spec"]["ports"]} <= names
        selector = manifests.one("Deployment")["spec"]["selector"]["matchLabels"]
        assert selector.items() <= labels.items()


def test_a_pod_has_time_to_finish_its_calls(rendered):
    for _, manifests in rendered.items():
        spec = manifests.pod["spec"]
        drain = yaml.safe_load(manifests.config)["server"].get("drain_s", 30)
        sleep = manifests.gateway["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert spec["terminationGracePeriodSeconds"] >= drain + sleep + 10
    assert rendered["agents-values.yaml"].pod["spec"]["terminationGracePeriodSeconds"] == 5 + 46 + 15


def test_one_gateway_has_the_store_at_a_time(rendered):
    for _, manifests in rendered.items():
        deployment = manifests.one("Deployment")["spec"]
        assert deployment["replicas"] == 1 and deployment["strategy"] == {"type": "Recreate"}
        assert not manifests.of("PodDisruptionBudget"), "with one replica it would only block the node"
    claim = rendered["minimal-values.yaml"].one("PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_opa_starts_before_the_gateway_and_ends_after_it(rendered):
    manifests = rendered["sidecar-values.yaml"]
    (opa,) = manifests.pod["spec"]["initContainers"]
    assert opa["restartPolicy"] == "Always" and "startupProbe" in opa
    assert "--addr=unix:///run/opa/opa.sock" in opa["args"], "no port a neighbour could change policies by"
    assert yaml.safe_load(manifests.config)["policy"]["opa"]["socket"] == "/run/opa/opa.sock"


def test_rules_and_dashboards_arrive_as_they_are_in_observability(rendered):
    manifests = rendered["watched-values.yaml"]
    groups = manifests.one("PrometheusRule")["spec"]["groups"]
    files = sorted((ROOT / "observability").rglob("rules/*.yml"))
    assert groups == [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    boards = {
        name: text
        for each in manifests.of("ConfigMap")
        if "grafana_dashboard" in each["metadata"]["labels"]
        for name, text in each["data"].items()
    }
    files = sorted((ROOT / "observability").rglob("dashboards/*.json"))
    assert {name: json.loads(text) for name, text in boards.items()} == {
        path.name: json.loads(path.read_text()) for path in files
    }
    assert boards


def test_prometheus_finds_the_admin_service_and_nothing_else(rendered):
    manifests = rendered["watched-values.yaml"]
    monitor = manifests.one("ServiceMonitor")["spec"]
    chosen = [
        service["metadata"]["name"]
        for service in manifests.of("Service")
        if monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    ]
    assert chosen == ["wardgate-admin"]
    ports = {port["name"] for port in manifests.one("Service", "wardgate-admin")["spec"]["ports"]}
    assert {each["port"] for each in monitor["endpoints"]} <= ports


def test_nothing_secret_is_in_what_is_rendered(rendered):
    for _, each in everyone(rendered):
        assert each["kind"] != "Secret", "secrets are the cluster's own, and only named"


# ----------------------------------------------------------------------------- what the gateway makes of it


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_gateway_accepts_its_configuration(example, rendered, tmp_path, monkeypatch):
    for name in ("GITHUB_TOKEN", "WARDGATE_POSTGRESQL"):
        monkeypatch.setenv(name, "something-that-is-long-enough-0123456789")
    path = tmp_path / "wardgate.yaml"
    manifests = rendered[example.name]
    path.write_text(manifests.config)
    config = load(path)
    ports = {each["name"]: each["containerPort"] for each in manifests.gateway["ports"]}
    assert (config.server.port, config.server.admin_port) == (ports["proxy"], ports["admin"])
    mounts = [each["mountPath"] for each in manifests.gateway["volumeMounts"]]
    assert config.storage.url == "${WARDGATE_POSTGRESQL}" or str(config.storage.path.parent) in mounts
    for service in manifests.of("Service"):
        name = service["metadata"]["name"]
        for host in (
            name,
            f"{name}.{NAMESPACE}",
            f"{name}.{NAMESPACE}.svc",
            f"{name}.{NAMESPACE}.svc.cluster.local",
        ):
            assert host in config.server.allowed_hosts, "or agents would be answered 421"


def test_large_numbers_and_lists_of_the_configuration_arrive(rendered):
    server = yaml.safe_load(rendered["agents-values.yaml"].config)["server"]
    assert server["max_body_bytes"] == 8_388_608
    assert server["drain_s"] == 45.5
    assert "gateway.example.com" in server["allowed_hosts"]


def test_only_what_a_reload_cannot_change_restarts_the_gateway():
    def checksum(values):
        return render(values).pod["metadata"]["annotations"]["checksum/lasting"]

    before = checksum(LEAST)
    assert checksum(with_values(config={"agents": {"a": {"owner": "b"}}})) == before
    assert checksum(with_values(config={"limits": {"in_flight": 7}})) == before
    assert checksum(with_values(config={"telemetry": {"log_level": "debug"}})) != before
    assert checksum(with_values(config={"server": {"drain_s": 20}})) != before
    assert checksum(with_values(policy={"engine": "sidecar"})) != before


def mounted(folder: Path, files: dict[str, str], generation: int) -> None:
    """Files as the kubelet mounts a ConfigMap: links to a hidden folder that is exchanged as a whole."""
    hidden = folder / f"..2026_{generation}"
    hidden.mkdir(parents=True)
    for name, text in files.items():
        (hidden / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..data") / name)
    (folder / "..data_tmp").symlink_to(hidden.name)
    (folder / "..data_tmp").rename(folder / "..data")


RULE = """# METADATA
# title: A rule
# custom: {{id: team.rule, owner: us, codes: [team_rule], severity: high}}
package wardgate.rules.team_rule
import rego.v1

deny contains {{"code": "team_rule", "message": "{}"}} if input.call.target == "a/b"
"""


async def test_a_mounted_configmap_is_read_once_and_its_changes_are_seen(tmp_path):
    folder = tmp_path / "policies"
    mounted(folder, {"rule.rego": RULE.format("one")}, 1)
    before = read_bundle(folder, "starter")
    assert sum(module.id == "team.rule" for module in before.rules) == 1
    seen = asyncio.Event()

    async def changed() -> None:
        seen.set()

    watching = asyncio.create_task(watch.watch_folder(folder, changed))
    await asyncio.sleep(0.3)  # the watcher has to be there first
    state = watch.file_state(folder / "rule.rego")
    mounted(folder, {"rule.rego": RULE.format("two")}, 2)
    await asyncio.wait_for(seen.wait(), 10)
    watching.cancel()
    assert watch.file_state(folder / "rule.rego") != state, "so a mounted wardgate.yaml is read again too"
    assert read_bundle(folder, "starter").revision != before.revision


# ------------------------------------------------------------------------------------------ what is refused


def values(**more: Any) -> dict[str, Any]:
    return with_values(**more)


AGENTS = {"enabled": True, "namespaces": ["agents"]}
EXTERNAL = {"url": "https://opa:8181", "tokenSecret": {"name": "t"}}
OPA_RULE = {"to": [{"podSelector": {"matchLabels": {"app": "opa"}}}], "ports": [{"port": 8181}]}
POSTGRESQL = {"engine": "postgresql", "postgresql": {"existingSecret": "pg"}}
ANYWHERE = {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443}]}

MIXES = [
    (values(image={"repository": ""}), "image.repository is empty"),
    (values(secrets={"existingSecret": ""}), "kubectl -n guard-ns create secret"),
    (values(policy={"pack": ""}), "no policy, so every call would be refused"),
    (values(policy={"configMap": "p"}, config={"policy": {"source": {"path": "/p"}}}), "keep one"),
    (values(policy={"engine": "external"}), "needs policy.external.url with https"),
    (values(policy={"engine": "external", "external": {**EXTERNAL, "url": "http://opa:8181"}}), "with https"),
    (values(policy={"engine": "external", "external": {"url": "https://opa"}}), "tokenSecret.name"),
    (values(policy={"engine": "external", "external": EXTERNAL}), "lets the gateway reach OPA"),
    (values(policy={"external": EXTERNAL}), "does nothing with policy.engine embedded"),
    (values(policy={"engine": "sidecar", "external": EXTERNAL}), "does nothing with policy.engine sidecar"),
    (values(policy={"engine": "sidecar", "sidecar": {"image": {"tag": ""}}}), "needs a tag or digest"),
    (values(storage={"engine": "postgresql"}), "needs storage.postgresql.existingSecret"),
    (values(storage={"postgresql": {"existingSecret": "pg"}}), "does nothing with storage.engine sqlite"),
    (values(storage={"persistence": {"enabled": False}}), "acceptLoss"),
    (values(storage={"persistence": {"enabled": False, "existingClaim": "c"}, "acceptLoss": True}), "is off"),
    (values(storage=POSTGRESQL), "lets the gateway reach it"),
    (values(replicas=2), "more than one replica"),
    (values(autoscaling={"hpa": {"enabled": True}}), "more than one replica"),
    (values(autoscaling={"keda": {"enabled": True}}), "keda.prometheus"),
    (values(autoscaling={"keda": {"enabled": True, "prometheus": "http://p"}}), "nobody scrapes"),
    (values(autoscaling={"hpa": {"enabled": True}, "keda": {"enabled": True}}), "fight over the replicas"),
    (values(autoscaling={"hpa": {"enabled": True, "minReplicas": 50}}), "more than maxReplicas"),
    (values(agentEgress={"enabled": True}), "needs agentEgress.namespaces"),
    (values(agentEgress={"namespaces": ["agents"]}), "is off, so they can go anywhere"),
    (values(agentEgress={"enabled": True, "namespaces": [NAMESPACE]}), "would be taken for agents"),
    (values(agentEgress=AGENTS, networkPolicy={"enabled": False}), "guards one side only"),
    (values(agentEgress={**AGENTS, "dns": {"mode": "none"}}), "needs service.clusterIP"),
    (values(networkPolicy={"egress": [ANYWHERE]}), "reach everything"),
    (values(monitoring={"serviceMonitor": {"enabled": True}}), "lets no Prometheus in"),
    (values(console={"ingress": {"enabled": True, "host": "a", "tlsSecret": "b"}}), "console.enabled is off"),
    (values(console={"enabled": True, "ingress": {"enabled": True}}), "host and tlsSecret"),
    (values(config={"assertion": {"key_file": "/k"}}), "assertions cannot be signed"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "said"), MIXES, ids=[said[:40] for _, said in MIXES])
def test_values_that_do_not_fit_together_are_refused(given, said):
    with pytest.raises(Refused, match=re.escape(said)):
        render(given)


def test_an_external_opa_that_can_be_reached_is_accepted():
    given = values(policy={"engine": "external", "external": EXTERNAL}, networkPolicy={"egress": [OPA_RULE]})
    assert yaml.safe_load(render(given).config)["policy"]["opa"]["url"] == "https://opa:8181"


def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(Refused) as refused:
        helm("template", "w", str(CHART), "--namespace", NAMESPACE)
    for said in ("image.repository", "secrets.existingSecret", "no policy"):
        assert said in str(refused.value)


MISSPELT = [
    ({"replica": 2}, "replica"),
    ({"image": {"repository": "r", "tag": "latest"}}, "tag"),
    ({"policy": {"pack": "starter", "engin": "sidecar"}}, "engin"),
    ({"policy": {"pack": "starter", "engine": "remote"}}, "engine"),
    ({"config": {"upstream": {}}}, "upstream"),
    ({"config": {"limits": {"in_flight": 0}}}, "in_flight"),
    ({"config": {"server": {"port": 9000}}}, "port"),
    ({"config": {"storage": {"path": "/x"}}}, "path"),
    ({"config": {"policy": {"engine": "opa"}}}, "engine"),
    ({"networkPolicy": {"egress": [{}]}}, "egress"),
    ({"networkPolicy": {"egress": [{"to": [{}], "ports": [{"port": 1}]}]}}, "egress"),
    ({"networkPolicy": {"egress": [{"to": [{"podSelectors": {}}], "ports": [{"port": 1}]}]}}, "egress"),
    ({"agentEgress": {"podSelector": {"matchLabels": {}}}}, "podSelector"),
    ({"agentEgress": {"dns": {"podLabels": {}}}}, "podLabels"),
    ({"service": {"type": "NodePort"}}, "type"),
    ({"serviceAccount": {"automount": True}}, "automount"),
]


@pytest.mark.parametrize(("over", "said"), MISSPELT, ids=[json.dumps(over)[:60] for over, _ in MISSPELT])
def test_what_the_schema_does_not_know_is_refused(over, said):
    given = with_values(over=over)
    if said == "podLabels":  # an empty map is laid over the default, and changes nothing of it
        given["agentEgress"]["dns"]["podLabels"] = {"k8s-app": None}
    with pytest.raises(Refused, match=rf"(?s)specifications.*{said}"):
        render(given)


# -------------------------------------------------------------- what waits for a gateway that can be scaled


@pytest.fixture(scope="module")
def scalable(tmp_path_factory) -> Path:
    """The chart with the switches of ``files/supports.yaml`` on, as for a gateway with shared stores."""
    chart = tmp_path_factory.mktemp("chart") / "wardgate"
    shutil.copytree(CHART, chart)
    everything = {"console": True, "postgresql": True, "redis": True, "replicas": True}
    (chart / "files" / "supports.yaml").write_text(yaml.safe_dump(everything))
    return chart


SHARED = {
    "networkPolicy": {"egress": [OPA_RULE]},
    "storage": POSTGRESQL,
    "redis": {"existingSecret": "redis"},
}


def test_replicas_are_evicted_one_at_a_time_and_replaced_without_a_gap(scalable):
    manifests = render(values(replicas=3, **SHARED), scalable)
    budget = manifests.one("PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"].items() <= manifests.pod["metadata"]["labels"].items()
    deployment = manifests.one("Deployment")["spec"]
    assert deployment["replicas"] == 3
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert not manifests.of("PersistentVolumeClaim")
    for each in manifests:
        kubernetes_validate.validate(each, KUBERNETES[-1], strict=True)


def test_who_scales_owns_the_number_of_replicas(scalable):
    monitored = {
        "monitoring": {"serviceMonitor": {"enabled": True}},
        "networkPolicy": {
            "adminFrom": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
            "egress": [OPA_RULE],
        },
    }
    by_cpu = render(values(autoscaling={"hpa": {"enabled": True}}, **SHARED), scalable)
    assert "replicas" not in by_cpu.one("Deployment")["spec"]
    for version in KUBERNETES:
        kubernetes_validate.validate(by_cpu.one("HorizontalPodAutoscaler"), version, strict=True)
    keda = {"keda": {"enabled": True, "prometheus": "http://prometheus:9090"}}
    by_load = render(values(autoscaling=keda, **{**SHARED, **monitored}), scalable)
    assert "replicas" not in by_load.one("Deployment")["spec"]
    (trigger,) = by_load.one("ScaledObject")["spec"]["triggers"]
    assert "wardgate_requests_in_progress" in trigger["metadata"]["query"]
    assert not by_load.of("HorizontalPodAutoscaler")


def test_replicas_without_shared_stores_are_refused_even_then(scalable):
    with pytest.raises(Refused, match="needs stores that they share"):
        render(values(replicas=2), scalable)
    with pytest.raises(Refused, match="needs stores that they share"):
        render(values(replicas=2, redis={"existingSecret": "redis"}), scalable)


def test_people_come_to_the_console_and_to_nothing_else(scalable):
    given = values(
        console={
            "enabled": True,
            "ingress": {"enabled": True, "host": "wardgate.example.com", "tlsSecret": "tls"},
        },
        networkPolicy={
            "consoleFrom": [
                {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}
            ]
        },
    )
    manifests = render(given, scalable)
    (rule,) = manifests.one("Ingress")["spec"]["rules"]
    assert [each["path"] for each in rule["http"]["paths"]] == ["/console"]
    config = yaml.safe_load(manifests.config)
    assert "wardgate.example.com" in config["server"]["allowed_hosts"]
    assert config["console"]["url"] == "https://wardgate.example.com/console"
    for version in KUBERNETES:
        kubernetes_validate.validate(manifests.one("Ingress"), version, strict=True)


# ---------------------------------------------------------------------------------------- what is generated


def test_generated_files_are_what_the_code_says_now():
    generator = runpy.run_path(str(ROOT / "docs" / "generate" / "chart.py"))
    for name, text in generator["files"]().items():
        assert (CHART / name).read_text(encoding="utf-8") == text, f"{name}: run 'make docs'"


def test_every_value_is_described_and_has_a_schema():
    generator = runpy.run_path(str(ROOT / "docs" / "generate" / "chart.py"))
    described = {key for key, _, _ in generator["settings"]()}
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = generator["schema"]()

    def walk(node: Any, known: dict[str, Any], path: tuple[str, ...]) -> None:
        for key, value in node.items():
            name = ".".join((*path, key))
            assert key in known["properties"], f"{name} is not in helm/schema.yaml"
            if name not in described:
                assert isinstance(value, dict) and value, f"{name} has no '# --' comment"
                walk(value, known["properties"][key], (*path, key))

    walk(defaults, schema, ())


def test_the_chart_offers_what_the_gateway_has():
    supports = yaml.safe_load((CHART / "files" / "supports.yaml").read_text())
    for what, section in (("console", "console"), ("redis", "state")):
        assert supports[what] == (section in Config.model_fields)
    if not supports["redis"]:
        with pytest.raises(Refused, match="there is nothing it would use a Redis for"):
            render(values(redis={"existingSecret": "redis"}))


@pytest.mark.skipif(not os.environ.get("CI"), reason="the pinned Helm is installed by .ci/run")
def test_helm_is_the_pinned_one():
    assert helm("version", "--short").startswith("v4.3")
