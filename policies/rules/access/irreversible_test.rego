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
