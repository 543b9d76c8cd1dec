package wardgate.tests.records_bulk

import data.wardgate.rules.records_bulk
import rego.v1

codes(members) := {member.code | some member in members}

records(args) := {"tool": {"confidentiality": 2, "effects": []}, "call": {"args": args}}

test_a_large_count_is_lowered if {
	got := records_bulk.obligation with input as records({"limit": 5000})
	got == {{"kind": "cap", "value": {"pointer": "/limit", "max": 50}}}
}

test_a_small_count_is_left if records_bulk.obligation == set() with input as records({"limit": 50})

test_a_count_as_text_is_refused if {
	codes(records_bulk.deny) == {"record_count_unclear"} with input as records({"limit": "5000"})
}

test_a_negative_count_is_refused if {
	codes(records_bulk.deny) == {"record_count_unclear"} with input as records({"limit": -1})
}

test_a_long_list_of_ids_is_refused if {
	ids := [id | some id in split("abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz", "")]
	codes(records_bulk.deny) == {"too_many_records"} with input as records({"ids": ids})
}

test_bulk_export_needs_a_person if {
	got := records_bulk.escalate with input as {"tool": {"confidentiality": 2, "effects": ["bulk"]}, "call": {"args": {}}}
	codes(got) == {"bulk_export_needs_person"}
}

test_public_data_is_not_bounded if {
	got := records_bulk.obligation with input as {"tool": {"confidentiality": 0, "effects": []}, "call": {"args": {"limit": 5000}}}
	got == set()
}
