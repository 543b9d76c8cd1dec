package wardgate.tests.sink_provenance_reads

import data.wardgate.rules.sink_provenance_reads
import rego.v1

asked(source) := got if {
	got := {member.code | some member in sink_provenance_reads.escalate} with input as {
		"call": {"provenance": {"/url": {"kind": "url", "source": source, "trusted": false}}},
		"session": {"integrity": "untrusted"},
	}
}

test_a_page_that_a_stranger_names_is_asked_about if {
	asked("untrusted") == {"value_from_untrusted"}
	asked("none") == {"value_from_nowhere"}
}

test_a_page_the_user_names_is_read if asked("user") == set()
