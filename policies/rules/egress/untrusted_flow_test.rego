package wardgate.tests.untrusted_flow

import data.wardgate.rules.untrusted_flow
import rego.v1

codes(members) := {member.code | some member in members}

asked(session) := got if {
	got := {"deny": codes(untrusted_flow.deny), "escalate": codes(untrusted_flow.escalate)} with input as session
		with data.flow.confidential_leaves as "refuse"
}

test_untrusted_content_asks_a_person if {
	asked({"session": {"labels": ["untrusted"]}}) == {"deny": set(), "escalate": {"untrusted_content_needs_person"}}
}

test_untrusted_and_confidential_content_is_refused if {
	asked({"session": {"labels": ["confidential", "untrusted"]}}) == {"deny": {"untrusted_and_confidential"}, "escalate": set()}
}

test_confidential_content_may_be_asked_about if {
	got := {"deny": codes(untrusted_flow.deny), "escalate": codes(untrusted_flow.escalate)} with input as {"session": {"labels": ["confidential", "untrusted"]}}
		with data.flow.confidential_leaves as "ask"
	got == {"deny": set(), "escalate": {"untrusted_and_confidential"}}
}

test_a_destination_the_user_named_passes if {
	every labels in [["untrusted"], ["confidential", "untrusted"]] {
		asked({
			"session": {"labels": labels},
			"call": {"provenance": {"/to": {"kind": "recipient", "source": "user", "trusted": true}}},
		}) == {"deny": set(), "escalate": set()}
	}
}

test_one_destination_of_a_stranger_is_enough if {
	asked({
		"session": {"labels": ["confidential", "untrusted"]},
		"call": {"provenance": {
			"/to": {"kind": "recipient", "source": "user", "trusted": true},
			"/cc": {"kind": "recipient", "source": "untrusted", "trusted": false},
		}},
	}) == {"deny": {"untrusted_and_confidential"}, "escalate": set()}
}

test_without_labels_nothing_happens if {
	every session in [{}, {"session": {"calls": 3}}, {"session": {"labels": []}}, {"session": {"labels": ["confidential"]}}] {
		asked(session) == {"deny": set(), "escalate": set()}
	}
}
