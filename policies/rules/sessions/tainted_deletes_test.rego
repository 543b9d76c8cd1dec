package wardgate.tests.tainted_deletes

import data.wardgate.rules.tainted_deletes
import rego.v1

asked(source, integrity) := got if {
	got := {member.code | some member in tainted_deletes.escalate} with input as {
		"call": {"provenance": {"/id": {"kind": "id", "source": source, "trusted": source == "trusted"}}},
		"session": {"integrity": integrity},
	}
}

test_a_listed_thing_is_not_deleted_after_reading_strangers if asked("trusted", "untrusted") == {"delete_after_untrusted"}

test_what_the_user_names_is_deleted if asked("user", "untrusted") == set()

test_a_session_that_read_no_strangers_deletes if asked("trusted", "trusted") == set()
