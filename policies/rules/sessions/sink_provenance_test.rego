package wardgate.tests.sink_provenance

import data.wardgate.rules.sink_provenance
import rego.v1

asked(kind, source, integrity) := got if {
	got := {member.code | some member in sink_provenance.escalate} with input as {
		"call": {"provenance": {"/to": {"kind": kind, "source": source, "trusted": false}}},
		"session": {"integrity": integrity},
	}
}

test_a_value_from_outside_asks_a_person if {
	every kind in ["recipient", "iban", "url", "host", "command", "sql"] {
		asked(kind, "untrusted", "untrusted") == {"value_from_untrusted"}
	}
}

test_a_value_somebody_vouches_for_passes if {
	every source in ["user", "mandate", "trusted"] {
		asked("recipient", source, "untrusted") == set()
	}
}

test_a_value_from_nowhere_asks_only_where_strangers_were_read if {
	asked("recipient", "none", "untrusted") == {"value_from_nowhere"}
	asked("recipient", "none", "trusted") == set()
}

test_a_new_name_of_a_file_is_no_reason_to_ask if asked("path", "none", "untrusted") == set()

test_without_provenance_nothing_happens if count(sink_provenance.escalate) == 0 with input as {"session": {"integrity": "untrusted"}}
