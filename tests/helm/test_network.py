"""The evaluator of network policies itself, on the examples of the Kubernetes documentation."""

from __future__ import annotations

import copy

from tests.helm.network import Network, Outside, Pod, selects

NAMESPACES = {"default": {"kubernetes.io/metadata.name": "default"}, "my": {"project": "myproject"}}
DB = Pod("db", "default", {"role": "db"}, "10.1.0.1", {"redis": 6379})
FRONTEND = Pod("frontend", "default", {"role": "frontend"}, "10.1.0.2")
OTHER = Pod("other", "default", {"role": "other"}, "10.1.0.3")
PROJECT = Pod("project", "my", {}, "10.2.0.1")

# https://kubernetes.io/docs/concepts/services-networking/network-policies/, the first example
EXAMPLE = {
    "metadata": {"namespace": "default"},
    "spec": {
        "podSelector": {"matchLabels": {"role": "db"}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {
                "from": [
                    {"ipBlock": {"cidr": "172.17.0.0/16", "except": ["172.17.1.0/24"]}},
                    {"namespaceSelector": {"matchLabels": {"project": "myproject"}}},
                    {"podSelector": {"matchLabels": {"role": "frontend"}}},
                ],
                "ports": [{"protocol": "TCP", "port": 6379}],
            }
        ],
        "egress": [
            {"to": [{"ipBlock": {"cidr": "10.0.0.0/24"}}], "ports": [{"protocol": "TCP", "port": 5978}]}
        ],
    },
}


def test_the_example_of_the_documentation():
    network = Network([EXAMPLE], NAMESPACES)
    assert network.allows(FRONTEND, DB, 6379)
    assert network.allows(PROJECT, DB, 6379)
    assert network.allows(Outside("172.17.0.9"), DB, 6379)
    assert not network.allows(Outside("172.17.1.9"), DB, 6379), "the exception of the block"
    assert not network.allows(OTHER, DB, 6379)
    assert not network.allows(FRONTEND, DB, 80)
    assert not network.allows(FRONTEND, DB, 6379, "UDP")
    assert network.allows(DB, Outside("10.0.0.7"), 5978)
    assert not network.allows(DB, Outside("10.0.1.7"), 5978)
    assert network.allows(OTHER, FRONTEND, 80), "who is not selected is open"


def test_a_direction_that_is_not_named_stays_open():
    policy = copy.deepcopy(EXAMPLE)
    policy["spec"]["policyTypes"] = ["Ingress"]
    assert Network([policy], NAMESPACES).allows(DB, Outside("192.0.2.1"), 443)
    del policy["spec"]["policyTypes"]  # then it follows from the rules that are there
    assert not Network([policy], NAMESPACES).allows(DB, Outside("192.0.2.1"), 443)


def test_policies_add_up():
    wide = {
        "metadata": {"namespace": "default"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]},
    }
    assert Network([EXAMPLE, wide], NAMESPACES).allows(DB, Outside("192.0.2.1"), 443)


def test_namespace_and_pod_in_one_peer_must_both_fit():
    policy = copy.deepcopy(EXAMPLE)
    policy["spec"]["ingress"][0]["from"] = [
        {
            "namespaceSelector": {"matchLabels": {"project": "myproject"}},
            "podSelector": {"matchLabels": {"role": "frontend"}},
        }
    ]
    network = Network([policy], NAMESPACES)
    assert not network.allows(FRONTEND, DB, 6379)
    assert not network.allows(PROJECT, DB, 6379)


def test_a_named_port_is_the_one_of_the_target():
    policy = copy.deepcopy(EXAMPLE)
    policy["spec"]["ingress"][0]["ports"] = [{"port": "redis"}]
    network = Network([policy], NAMESPACES)
    assert network.allows(FRONTEND, DB, 6379)
    assert not network.allows(FRONTEND, DB, 6380)


def test_expressions():
    assert selects({}, {})
    assert selects({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["x"]}]}, {})
    assert not selects({"matchExpressions": [{"key": "a", "operator": "In", "values": ["x"]}]}, {})
    assert selects({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"a": "1"})
    assert not selects({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {"a": "1"})
