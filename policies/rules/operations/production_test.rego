package wardgate.tests.production

import data.wardgate.rules.production
import rego.v1

codes(members) := {member.code | some member in members}

in_production(labels, source) := {
	"environment": "production",
	"agent": {"labels": labels},
	"tool": {"target": "a/b", "source": source},
}

test_production_needs_the_label if {
	codes(production.deny) == {"production_not_permitted"} with input as in_production([], "operator")
	production.deny == set() with input as in_production(["production-writer"], "operator")
}

test_production_refuses_undescribed_tools if {
	got := production.deny with input as in_production(["production-writer"], "default")
	codes(got) == {"production_tool_undescribed"}
}

test_other_environments_are_free if {
	production.deny == set() with input as object.union(in_production([], "default"), {"environment": "staging"})
}
