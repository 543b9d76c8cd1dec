package wardgate.tests.personal_data_egress

import data.wardgate.rules.personal_data_egress
import rego.v1

codes(members) := {member.code | some member in members}

asked(args) := got if {
	text := concat("\n", [written | walk(args, [_, written]); is_string(written)])
	got := {"deny": codes(personal_data_egress.deny), "escalate": codes(personal_data_egress.escalate)} with input.call as {"args": args, "text": text}
		with data.personal.national_ids.enabled as ["us_ssn"]
}

nothing := {"deny": set(), "escalate": set()}

test_a_card_number_does_not_leave if {
	asked({"body": "my card: 4111 1111 1111 1111"}) == {"deny": {"personal_data_refused"}, "escalate": set()}
	asked({"rows": [{"note": "4111111111111111"}]}).deny == {"personal_data_refused"}
}

test_a_number_that_only_looks_like_a_card_leaves if asked({"body": "order 4111 1111 1111 1112"}) == nothing

test_an_iban_asks_a_person if asked({"body": "DE89 3704 0044 0532 0130 00"}) == {"deny": set(), "escalate": {"personal_data_needs_person"}}

test_few_addresses_leave_and_many_ask if {
	asked({"body": "ask ann@a.example or call +49 30 1234567"}) == nothing
	asked({"body": "a@a.example b@a.example c@a.example d@a.example"}).escalate == {"personal_data_needs_person"}
}

test_addressing_a_message_is_no_leak if {
	asked({"to": ["a@a.example", "b@a.example", "c@a.example", "d@a.example", "e@a.example"], "body": "hello"}) == nothing
}

test_national_ids_count_where_they_are_listed if {
	asked({"body": "SSN 123-45-6789"}).deny == {"personal_data_refused"}
	got := personal_data_egress.deny with input.call as {"args": {"body": "SSN 123-45-6789"}, "text": "SSN 123-45-6789"}
		with data.personal.national_ids.enabled as []
	got == set()
}

test_a_kind_that_is_none_refuses if {
	got := personal_data_egress.deny with input.call as {"args": {}, "text": ""} with data.personal.ask_above as {"emails": 3}
	codes(got) == {"personal_kind_unknown"}
}

test_a_national_id_without_a_pattern_refuses if {
	got := personal_data_egress.deny with input.call as {"args": {"body": "x"}, "text": "x"}
		with data.personal.national_ids.enabled as ["uk_snn"]
	codes(got) == {"personal_data_refused"}
}
