package wardgate.tests.quantities

import data.wardgate.rules.quantities
import rego.v1

codes(members) := {member.code | some member in members}

asked(args) := got if {
	got := {"escalate": codes(quantities.escalate), "deny": codes(quantities.deny)} with input.call.args as args
		with data.quantities.limits as {"quantity": {"ask": 100, "refuse": 1000}}
}

nothing := {"escalate": set(), "deny": set()}

test_small_quantities_pass if asked({"quantity": 100, "item": "A4"}) == nothing

test_larger_ones_ask_and_huge_ones_are_refused if {
	asked({"quantity": 101}) == {"escalate": {"quantity_over_limit"}, "deny": set()}
	asked({"Quantity": 1001}) == {"escalate": set(), "deny": {"quantity_over_cap"}}
}

test_quantities_are_found_below_the_top if asked({"items": [{"quantity": 2}, {"quantity": 5000}]}).deny == {"quantity_over_cap"}

test_what_is_no_number_is_refused if {
	every value in ["5", -1, 0, null, true, [5], {"n": 5}] {
		asked({"quantity": value}).deny == {"quantity_unclear"}
	}
}
