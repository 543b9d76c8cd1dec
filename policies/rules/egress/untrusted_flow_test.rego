package wardgate.tests.untrusted_flow

import data.wardgate.rules.untrusted_flow
import rego.v1

codes(members) := {member.code | some member in members}

asked(session) := got if {
	got := {"deny": codes(untrusted_flow.deny), "escalate": codes(untrusted_flow.escalate)} with input as session
}

test_untrusted_content_asks_a_person if {
	asked({"session": {"labels": ["untrusted"]}}) == {"deny": set(), "escalate": {"untrusted_content_needs_person"}}
}

test_untrusted_and_confidential_content_is_refused if {
	asked({"session": {"labels": ["confidential", "untrusted"]}}) == {"deny": {"untrusted_and_confidential"}, "escalate": set()}
}

test_without_labels_nothing_happens if {
	every session in [{}, {"session": {"calls": 3}}, {"session": {"labels": []}}, {"session": {"labels": ["confidential"]}}] {
		asked(session) == {"deny": set(), "escalate": set()}
	}
}
