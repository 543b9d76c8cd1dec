package wardgate.tests.monitors_warn

import data.wardgate.rules.monitors_warn
import rego.v1

noted(fact) := got if {
	got := {[member.code, member.message] | some member in monitors_warn.deny} with input as {"session": {"monitors": {"m": fact}}}
}

test_a_warning_is_a_note if {
	noted({"violated": true, "on_violation": "warn", "message": "slow down"}) == {["monitor_warns", "slow down (monitor m)"]}
}

test_nothing_else_is if {
	noted({"violated": true, "on_violation": "deny", "message": "no"}) == set()
	noted({"violated": false, "left": 3}) == set()
	monitors_warn.deny == set() with input as {"session": {}}
}
