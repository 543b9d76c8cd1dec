package wardgate.tests.argument_rules

import data.wardgate.rules.argument_rules
import rego.v1

codes(members) := {member.code | some member in members}

bounds := {"k8s/scale": {
	"replicas": {"required": true, "type": "number", "min": 0, "max": 50},
	"namespace": {"not_enum": ["kube-system"], "pattern": "^[a-z0-9-]+$", "max_length": 20},
	"force": {"forbidden": true},
	"mode": {"enum": ["a", "b"]},
	"note": {"never": {"pattern": "@everyone"}},
}}

refused(args) := got if {
	got := codes(argument_rules.deny) with input as {"tool": {"target": "k8s/scale", "name": "scale"}, "call": {"args": args}}
		with data.arguments.tools as bounds
}

test_what_is_within_bounds_passes if {
	refused({"replicas": 3, "namespace": "shop", "mode": "a", "note": "hello", "force": false}) == set()
}

test_a_required_argument_must_be_given if refused({}) == {"argument_missing"}

test_a_forbidden_argument_must_not if {
	refused({"replicas": 1, "force": true}) == {"argument_forbidden"}
	refused({"replicas": 1, "force": "yes"}) == {"argument_forbidden"}
}

test_what_is_out_of_bounds_is_refused if {
	every args in [
		{"replicas": 51}, {"replicas": -1}, {"replicas": "3"}, {"replicas": null},
		{"replicas": 1, "namespace": "Kube-System"}, {"replicas": 1, "namespace": "a b"}, {"replicas": 1, "namespace": ["shop", "kube-system"]},
		{"replicas": 1, "namespace": "a-very-long-namespace-name"}, {"replicas": 1, "namespace": 5}, {"replicas": 1, "mode": "c"},
		{"replicas": 1, "mode": null}, {"replicas": 1, "note": "hi @Everyone"}, {"replicas": 1, "note": {"x": "@everyone"}},
	] {
		refused(args) == {"argument_out_of_bounds"}
	}
}

test_a_bound_for_any_upstream_holds if {
	got := argument_rules.deny with input as {"tool": {"target": "x/git_push", "name": "git_push"}, "call": {"args": {"force": true}}}
		with data.arguments.tools as {"*/git_push": {"force": {"forbidden": true}}}
	codes(got) == {"argument_forbidden"}
}

test_a_misspelt_bound_is_refused_not_ignored if {
	got := argument_rules.deny with input as {"tool": {"target": "x/y", "name": "y"}, "call": {"args": {}}}
		with data.arguments.tools as {"x/y": {"a": {"maximum": 3}}}
	codes(got) == {"argument_bound_unknown"}
}
