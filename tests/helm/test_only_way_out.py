"""The agents' only way out is the gateway: by the policies of the chart, and by what 'helm test' does."""

from __future__ import annotations

import copy
import re
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.helm.chart import CHART, NAMESPACE, render
from tests.helm.network import Network, Outside, Pod
from tests.requires import requires

pytestmark = requires("helm")

INTERNET = Outside("93.184.215.14")
METADATA = Outside("169.254.169.254")
NODE_DNS = Outside("169.254.20.10")
API_SERVER = Outside("10.0.0.1")
UPSTREAM = Outside("203.0.113.20")


class World:
    """A cluster with the chart in it, a pod of each kind, and strangers of each kind."""

    def __init__(self, example: str) -> None:
        self.manifests = render(CHART / "ci" / f"{example}-values.yaml")
        names = [NAMESPACE, "agents", "agents-eu", "kube-system", "monitoring", "edge", "shop"]
        self.namespaces = {name: {"kubernetes.io/metadata.name": name} for name in names}
        pod = self.manifests.pod
        ports = {each["name"]: each["containerPort"] for each in self.manifests.gateway["ports"]}
        self.gateway = Pod("gateway", NAMESPACE, pod["metadata"]["labels"], "10.1.0.1", ports)
        self.agent = Pod("agent", "agents", {"role": "agent", "app": "triage"}, "10.1.1.1")
        self.agent_eu = Pod("agent-eu", "agents-eu", {"role": "agent"}, "10.1.1.2")
        self.neighbour = Pod("neighbour", "agents", {"role": "database"}, "10.1.1.3")
        self.dns = Pod("dns", "kube-system", {"k8s-app": "kube-dns"}, "10.1.2.1")
        self.kube_system = Pod("other", "kube-system", {"k8s-app": "dashboard"}, "10.1.2.2")
        self.prometheus = Pod("prometheus", "monitoring", {"app": "prometheus"}, "10.1.3.1")
        self.envoy = Pod("envoy", "edge", {"app": "envoy"}, "10.1.4.1")
        self.shop = Pod("shop", "shop", {"role": "agent"}, "10.1.5.1")
        self.beside = Pod("beside", NAMESPACE, {"app": "postgres"}, "10.1.0.9", {"proxy": 8080})
        self.network = Network(self.manifests.of("NetworkPolicy"), self.namespaces)

    @property
    def everybody(self) -> list[Pod | Outside]:
        pods = [each for each in vars(self).values() if isinstance(each, Pod)]
        return [*pods, INTERNET, METADATA, NODE_DNS, API_SERVER, UPSTREAM]

    def reached(self, source: Pod) -> set[tuple[str, int, str]]:
        """All that a pod can reach, over the ports that matter in this world."""
        return {
            (target.name if isinstance(target, Pod) else target.ip, port, protocol)
            for target in self.everybody
            if target != source
            for port in (22, 53, 80, 443, 6443, 8080, 8181, 8282, 8700, 8701)
            for protocol in ("TCP", "UDP", "SCTP")
            if self.network.allows(source, target, port, protocol)
        }


def test_agents_reach_the_gateway_and_names_and_nothing_else():
    world = World("agents")
    way_out = {("gateway", 8700, "TCP"), ("dns", 53, "TCP"), ("dns", 53, "UDP")}
    assert world.reached(world.agent) == way_out
    assert world.reached(world.agent_eu) == way_out


def test_agents_without_names_reach_the_gateway_alone():
    world = World("agents-without-dns")
    assert world.reached(world.agent) == {("gateway", 8700, "TCP")}


def test_agents_with_a_cache_on_their_node():
    world = World("agents-nodelocal")
    assert world.reached(world.agent) == {
        ("gateway", 8700, "TCP"),
        (NODE_DNS.ip, 53, "TCP"),
        (NODE_DNS.ip, 53, "UDP"),
    }


def test_all_pods_are_agents_where_none_are_named():
    world = World("agents-without-dns")
    assert world.reached(world.neighbour) == {("gateway", 8700, "TCP")}


def test_nobody_reaches_an_agent_unless_that_is_left_open():
    closed, open_ = World("agents"), World("agents-nodelocal")
    assert not closed.network.allows(closed.kube_system, closed.agent, 8080)
    assert open_.network.allows(open_.kube_system, open_.agent, 8080)


def test_the_gateway_answers_whom_it_should_on_the_port_it_should():
    world = World("agents")
    callers = {
        (source.name, port)
        for source in world.everybody
        if isinstance(source, Pod) and source != world.gateway
        for port in (8700, 8701, 8282)
        if world.network.allows(source, world.gateway, port)
    }
    assert callers == {("agent", 8700), ("agent-eu", 8700), ("envoy", 8700), ("prometheus", 8701)}
    assert not world.network.allows(INTERNET, world.gateway, 8700)


def test_the_gateway_itself_goes_where_it_was_told():
    world = World("agents")
    assert world.reached(world.gateway) == {
        (UPSTREAM.ip, 443, "TCP"),
        ("dns", 53, "TCP"),
        ("dns", 53, "UDP"),
    }
    assert not world.network.allows(world.gateway, Outside("203.0.113.9"), 443)


def test_a_way_out_would_be_noticed():
    """Each mutation opens one, and the checks above must see it."""
    for mutate in (
        lambda spec: spec["egress"].append({}),
        lambda spec: spec["egress"].append({"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}),
        lambda spec: spec.update(policyTypes=["Ingress"]),
        lambda spec: spec["egress"][0]["to"][0].pop("podSelector"),
        lambda spec: spec["egress"][0]["to"][0].pop("namespaceSelector"),
        lambda spec: spec["egress"][1]["to"][0].pop("podSelector"),
        lambda spec: spec["podSelector"].update(matchLabels={"role": "nobody"}),
    ):
        world = World("agents")
        before = world.reached(world.agent)
        world.network.policies = copy.deepcopy(world.network.policies)
        (policy,) = [p for p in world.network.policies if p["metadata"]["namespace"] == "agents"]
        mutate(policy["spec"])
        assert world.reached(world.agent) != before


@pytest.mark.parametrize("kept", ["agents", NAMESPACE])
def test_either_side_alone_keeps_agents_from_the_admin_port(kept):
    world = World("agents")
    world.network.policies = [p for p in world.network.policies if p["metadata"]["namespace"] == kept]
    assert world.network.allows(world.agent, world.gateway, 8700)
    assert not world.network.allows(world.agent, world.gateway, 8701)


def test_the_pods_of_helm_test_are_what_they_try_out():
    world = World("agents")
    for test in (each for each in world.manifests.of("Pod") if each["metadata"]["name"].endswith("escape")):
        meta = test["metadata"]
        pod = Pod("test", meta["namespace"], meta["labels"], "10.1.9.1")
        assert world.reached(pod) == world.reached(world.agent)
        gateway, *forbidden = test["spec"]["containers"][0]["args"][1:]
        assert gateway == f"wardgate.{NAMESPACE}.svc.cluster.local:8700"
        assert forbidden[:2] == [
            "$(KUBERNETES_SERVICE_HOST):$(KUBERNETES_SERVICE_PORT)",
            f"wardgate-admin.{NAMESPACE}.svc.cluster.local:8701",
        ]
    health = world.manifests.one("Pod", "wardgate-test-health")["metadata"]
    assert world.network.allows(Pod("health", NAMESPACE, health["labels"], "10.1.9.2"), world.gateway, 8701)


@pytest.fixture
def listening() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def escape(*addresses: str) -> subprocess.CompletedProcess[str]:
    """What the test's pod runs, as it is rendered."""
    pods = render(CHART / "ci" / "agents-values.yaml").of("Pod")
    pod = next(each for each in pods if each["metadata"]["namespace"] == "agents")["spec"]["containers"][0]
    assert pod["command"][1:] == ["-I", "-c"] and "sh" not in pod["command"]
    return subprocess.run(
        [sys.executable, *pod["command"][1:], pod["args"][0], *addresses],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_helm_test_passes_when_only_the_gateway_answers(listening):
    done = escape(listening, "127.0.0.1:1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cannot be reached" in done.stdout


def test_helm_test_fails_when_there_is_a_way_out(listening):
    done = escape(listening, "127.0.0.1:1", listening)
    assert done.returncode == 1
    assert re.search(r"REACHED, THIS IS A WAY OUT", done.stdout)


def test_helm_test_fails_when_not_even_the_gateway_answers():
    assert escape("127.0.0.1:1", "127.0.0.1:1").returncode == 1


def test_helm_test_fails_when_nothing_was_tried(listening):
    assert escape(listening).returncode == 1
