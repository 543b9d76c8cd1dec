package wardgate.tests.read_before_write

import data.wardgate.rules.read_before_write
import rego.v1

asked(provenance) := got if {
	got := {member.message | some member in read_before_write.escalate; member.code == "object_never_seen"} with input as {"call": {"provenance": provenance}}
		with data.read_before_write.chain as "default"
}

test_an_id_from_nowhere_is_asked_about if {
	asked({"/order": {"kind": "id", "source": "none"}}) == {"/order names something that this session has not read"}
}

test_an_id_that_was_read_passes if {
	asked({"/order": {"kind": "id", "source": "trusted"}, "/x": {"kind": "id", "source": "untrusted"}}) == set()
}

test_only_ids_are_meant if asked({"/to": {"kind": "recipient", "source": "none"}}) == set()

test_without_provenance_nobody_is_asked if count(read_before_write.escalate) == 0 with input as {"call": {"args": {}}}
