package wardgate.tests.tier_allowed

import data.wardgate.rules.tier_allowed
import rego.v1

codes(members) := {member.code | some member in members}

tiers := {"risks": {"0": ["read"], "3": ["read", "irreversible"]}, "required": false}

refused(trust, risk) := got if {
	got := codes(tier_allowed.deny) with input as object.union(trust, {"tool": {"risk": risk}})
		with data.tiers as tiers
}

test_a_tier_uses_the_risks_it_was_given if {
	refused({"trust": {"tier": 3}}, "irreversible") == set()
	refused({"trust": {"tier": 0}}, "irreversible") == {"tier_too_low"}
	refused({"trust": {"tier": 0}}, "read") == set()
}

test_a_tier_that_is_in_no_list_uses_nothing if {
	every tier in [7, "3", -1, false, 3.5, [3]] {
		refused({"trust": {"tier": tier}}, "read") == {"tier_too_low"}
	}
}

test_without_tiers_nothing_happens_unless_one_is_required if {
	refused({}, "irreversible") == set()
	refused({"trust": {}}, "irreversible") == set()
	required := codes(tier_allowed.deny) with input as {"tool": {"risk": "read"}}
		with data.tiers as {"risks": {}, "required": true}
	required == {"tier_unknown"}
}
