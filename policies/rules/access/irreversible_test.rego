package wardgate.tests.irreversible

import data.wardgate.rules.irreversible
import rego.v1

test_irreversible_asks_a_person if {
	got := irreversible.escalate with input.tool as {"risk": "irreversible", "effects": [], "target": "x/y"}
	{member.code | some member in got} == {"irreversible_needs_person"}
}

test_irreversible_may_be_left_to_other_rules if {
	got := irreversible.escalate with input.tool as {"risk": "irreversible", "effects": ["money"], "target": "x/y"}
		with data.irreversible.decided_elsewhere as ["money"]
	got == set()
}

test_a_tool_the_mandate_names_is_delegated_where_that_suffices if {
	tool := {"risk": "irreversible", "effects": [], "target": "x/y"}
	held := irreversible.escalate with input as {"tool": tool, "mandate": {"tools": ["x/y"]}}
		with data.irreversible as {"decided_elsewhere": [], "mandate_suffices": true}
	held == set()
	allowed := irreversible.allow with input as {"tool": tool, "mandate": {"tools": ["x/y"]}}
		with data.irreversible as {"decided_elsewhere": [], "mandate_suffices": true}
	{member.code | some member in allowed} == {"delegated"}
	other := irreversible.escalate with input as {"tool": tool, "mandate": {"tools": ["x/z"]}}
		with data.irreversible as {"decided_elsewhere": [], "mandate_suffices": true}
	count(other) == 1
	unless := irreversible.escalate with input as {"tool": tool, "mandate": {"tools": ["x/y"]}}
		with data.irreversible as {"decided_elsewhere": [], "mandate_suffices": false}
	count(unless) == 1
}
