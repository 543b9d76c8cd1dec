package wardgate.tests.change_freeze

import data.wardgate.rules.change_freeze
import rego.v1

codes(members) := {member.code | some member in members}

window := {"environments": ["production"], "from": "2026-12-19T00:00:00+01:00", "until": "2027-01-04T06:00:00+01:00", "label": "exempt", "reason": "end of year"}

refused(time, labels, environment, windows) := got if {
	got := codes(change_freeze.deny) with input as {"time": time, "agent": {"labels": labels}, "environment": environment}
		with data.freezes.windows as windows
}

christmas := 1798192800000000000 # 2026-12-25T10:00:00Z

november := 1795860000000000000 # 2026-11-28T10:00:00Z

test_changes_are_refused_within_the_window if refused(christmas, [], "production", [window]) == {"change_freeze"}

test_they_pass_before_it_elsewhere_and_with_the_label if {
	refused(november, [], "production", [window]) == set()
	refused(christmas, [], "staging", [window]) == set()
	refused(christmas, ["exempt"], "production", [window]) == set()
}

test_the_offset_counts if {
	refused(time.parse_rfc3339_ns("2026-12-18T23:00:00Z"), [], "production", [window]) == {"change_freeze"}
	refused(time.parse_rfc3339_ns("2026-12-18T22:59:59Z"), [], "production", [window]) == set()
}

test_a_window_that_cannot_be_read_refuses if {
	refused(november, [], "staging", [object.remove(window, ["until"])]) == {"freeze_unclear"}
}
