package wardgate.tests.tools_allowed

import data.wardgate.rules.tools_allowed
import rego.v1

codes(members) := {member.code | some member in members}

refused(labels, target) := got if {
	got := codes(tools_allowed.deny) with input as {"agent": {"labels": labels}, "tool": {"target": target}}
		with data.tools.allowed as {"developer": ["git/*"], "reader": ["git/git_log"]}
}

test_an_unlisted_tool_is_refused if refused(["reader"], "git/git_commit") == {"tool_not_listed"}

test_a_listed_tool_passes if refused(["x", "developer"], "git/git_commit") == set()

test_a_star_does_not_reach_over_a_slash if refused(["developer"], "git/sub/tool") == {"tool_not_listed"}

test_an_agent_without_labels_gets_nothing if refused([], "git/git_log") == {"tool_not_listed"}
