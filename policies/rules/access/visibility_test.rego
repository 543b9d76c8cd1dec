package wardgate.tests.visibility

import data.wardgate.rules.visibility
import rego.v1

codes(members) := {member.code | some member in members}

shown(labels, environment, risk) := got if {
	got := visibility.deny with input as {"agent": {"labels": labels}, "environment": environment, "tool": {"risk": risk}}
		with data.visibility as {"labels": {"read-only": ["read"]}, "environments": {"production": ["read", "reversible"]}}
}

test_a_read_only_agent_is_shown_reads_only if {
	shown(["read-only"], "dev", "read") == set()
	codes(shown(["read-only"], "dev", "reversible")) == {"hidden_by_label"}
}

test_other_agents_are_shown_everything if shown(["x"], "dev", "irreversible") == set()

test_an_environment_may_show_less if {
	codes(shown([], "production", "irreversible")) == {"hidden_in_environment"}
	shown([], "production", "reversible") == set()
}
