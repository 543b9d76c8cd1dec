package wardgate.tests.questions_shown

import data.wardgate.rules.questions_shown
import rego.v1

codes(members) := {member.code | some member in members}

question(labels) := {"agent": {"labels": labels}, "tool": {"target": "git/elicitation/create"}}

test_a_question_nobody_allowed_is_hidden if {
	codes(questions_shown.deny) == {"question_not_listed"} with input as question(["developer"])
}

test_a_question_allowed_for_a_label_is_shown if {
	questions_shown.deny == set() with input as question(["x", "developer"])
		with data.questions.allowed as {"developer": ["git/elicitation/*"]}
}

test_a_question_of_another_upstream_stays_hidden if {
	codes(questions_shown.deny) == {"question_not_listed"} with input as question(["developer"])
		with data.questions.allowed as {"developer": ["office/elicitation/create"]}
}
