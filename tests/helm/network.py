"""What NetworkPolicies allow, by the rules of the Kubernetes API (networking.k8s.io/v1).

A pod that no policy selects for a direction is open in it. One that is selected may do what any of those
policies allows, and nothing else. A connection needs the egress of its source and the ingress of its target.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple


class Pod(NamedTuple):
    """``ports``: the names its containers give to ports."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    ip: str
    ports: Mapping[str, int] = {}


class Outside(NamedTuple):
    """An address that is no pod."""

    ip: str


class Network:
    def __init__(
        self, policies: Iterable[dict[str, Any]], namespaces: Mapping[str, Mapping[str, str]]
    ) -> None:
        self.policies = list(policies)
        self.namespaces = namespaces

    def allows(self, source: Pod | Outside, target: Pod | Outside, port: int, protocol: str = "TCP") -> bool:
        return self._may(source, target, target, port, protocol, "Egress") and self._may(
            target, source, target, port, protocol, "Ingress"
        )

    def _may(
        self,
        pod: Pod | Outside,
        peer: Pod | Outside,
        target: Pod | Outside,
        port: int,
        protocol: str,
        way: str,
    ) -> bool:
        if isinstance(pod, Outside):
            return True
        selecting = list(self._selecting(pod, way))
        if not selecting:
            return True
        side, key = ("to", "egress") if way == "Egress" else ("from", "ingress")
        for policy in selecting:
            for rule in policy["spec"].get(key) or []:
                peers = rule.get(side) or []
                if peers and not any(self._is(each, peer, policy["metadata"]["namespace"]) for each in peers):
                    continue
                ports = rule.get("ports") or []
                if not ports or any(_is_port(each, target, port, protocol) for each in ports):
                    return True
        return False

    def _selecting(self, pod: Pod, way: str) -> Iterator[dict[str, Any]]:
        for policy in self.policies:
            spec = policy["spec"]
            types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
            if (
                policy["metadata"]["namespace"] == pod.namespace
                and way in types
                and selects(spec.get("podSelector") or {}, pod.labels)
            ):
                yield policy

    def _is(self, peer: dict[str, Any], who: Pod | Outside, own_namespace: str) -> bool:
        if "ipBlock" in peer:
            address = ipaddress.ip_address(who.ip)
            block = peer["ipBlock"]
            return address in ipaddress.ip_network(block["cidr"]) and not any(
                address in ipaddress.ip_network(each) for each in block.get("except", [])
            )
        if isinstance(who, Outside):
            return False
        if "namespaceSelector" in peer:
            if not selects(peer["namespaceSelector"], self.namespaces[who.namespace]):
                return False
        elif who.namespace != own_namespace:
            return False
        return selects(peer.get("podSelector") or {}, who.labels)


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector, of which an empty one selects everything, selects these labels."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for each in selector.get("matchExpressions") or []:
        key, operator, values = each["key"], each["operator"], each.get("values", [])
        met = {
            "In": key in labels and labels[key] in values,
            "NotIn": key not in labels or labels[key] not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }[operator]
        if not met:
            return False
    return True


def _is_port(allowed: Mapping[str, Any], target: Pod | Outside, port: int, protocol: str) -> bool:
    if allowed.get("protocol", "TCP") != protocol:
        return False
    number = allowed.get("port")
    if number is None:
        return True
    if isinstance(number, str):
        return isinstance(target, Pod) and target.ports.get(number) == port
    return number <= port <= allowed.get("endPort", number)
