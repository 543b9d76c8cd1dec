package wardgate.tests.working_hours

import data.wardgate.rules.working_hours
import rego.v1

codes(members) := {member.code | some member in members}

hours := {"environments": ["production"], "zone": "Europe/Berlin", "days": ["Monday", "Friday"], "from_hour": 8, "until_hour": 18, "chain": "default"}

asked(when, environment) := got if {
	got := codes(working_hours.escalate) with input as {"time": time.parse_rfc3339_ns(when), "environment": environment}
		with data.working_hours as hours
}

test_within_hours_nobody_is_asked if asked("2026-11-27T07:00:00Z", "production") == set()

test_outside_hours_a_person_is_asked if {
	asked("2026-11-27T06:59:59Z", "production") == {"outside_working_hours"}
	asked("2026-11-27T17:00:00Z", "production") == {"outside_working_hours"}
	asked("2026-11-28T10:00:00Z", "production") == {"outside_working_hours"}
}

test_summer_time_counts if {
	asked("2026-07-03T06:00:00Z", "production") == set()
	asked("2026-07-03T16:00:00Z", "production") == {"outside_working_hours"}
}

test_other_environments_have_no_hours if asked("2026-11-28T10:00:00Z", "staging") == set()
