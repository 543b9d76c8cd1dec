package wardgate.tests.monitors

import data.wardgate.rules.monitors
import rego.v1

session(fact) := {"session": {"monitors": {"once": fact}}}

refused(fact) := got if got := {member.code | some member in monitors.deny} with input as session(fact)

asked(fact) := got if got := {member.approval.chain | some member in monitors.escalate} with input as session(fact)

test_what_a_monitor_forbids_is_refused if {
	refused({"violated": true, "on_violation": "deny", "message": "once"}) == {"monitor_violated"}
	asked({"violated": true, "on_violation": "deny", "message": "once"}) == set()
}

test_what_a_monitor_asks_about_is_asked_of_its_chain if {
	asked({"violated": true, "on_violation": "escalate", "chain": "payments"}) == {"payments"}
	asked({"violated": true, "on_violation": "escalate"}) == {"default"}
	refused({"violated": true, "on_violation": "escalate"}) == set()
}

test_what_is_not_violated_passes if {
	refused({"violated": false, "left": 1}) == set()
	asked({"violated": false, "left": 1}) == set()
}

test_what_only_warns_or_informs_is_not_refused if {
	refused({"violated": true, "on_violation": "warn"}) == set()
	refused({"violated": true, "on_violation": "nothing"}) == set()
}

test_a_fact_of_another_shape_is_refused if {
	refused({"violated": "yes"}) == {"monitor_violated"}
	refused({}) == {"monitor_violated"}
	refused("yes") == {"monitor_violated"}
	refused({"violated": true, "on_violation": 5, "message": {}, "remedy": []}) == {"monitor_violated"}
	refused({"violated": true, "on_violation": "dney"}) == {"monitor_violated"}
}

test_the_agent_is_told_which_monitor_and_what_to_do if {
	said := monitors.deny with input as session({
		"violated": true, "on_violation": "deny", "message": "an order is read before it is changed",
		"remedy": "call shop/get_order first",
	})
	said == {{
		"code": "monitor_violated", "message": "an order is read before it is changed (monitor once)",
		"remedy": "call shop/get_order first",
	}}
}

test_without_a_session_nothing_is_said if {
	monitors.deny == set() with input as {}
	monitors.escalate == set() with input as {"session": {"calls": 3}}
}

test_facts_that_cannot_be_read_stop_the_call if {
	every given in ["text", ["text"], null, false] {
		count(monitors.deny) == 1 with input as {"session": {"monitors": given}}
	}
}
