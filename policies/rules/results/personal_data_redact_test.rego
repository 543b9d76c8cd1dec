package wardgate.tests.personal_data_redact

import data.wardgate.lib.personal.form
import data.wardgate.rules.personal_data_redact
import rego.v1

found(text, labels, confidentiality) := got if {
	got := {kind: pattern | some duty in personal_data_redact.obligation; some kind, pattern in duty.value.patterns} with input as {"tool": {"confidentiality": confidentiality}, "agent": {"labels": labels}, "result": {"text": text}}
		with data.personal.redact as {"confidentiality": 2, "kinds": ["card_number", "email", "phone"], "reader_label": "personal-data"}
}

record := "Ann, ann@corp.example, (212) 555-0100, card 4111 1111 1111 1111, order 4111 1111 1111 1112"

test_what_is_found_is_taken_out_word_for_word if {
	found(record, [], 2) == {"card_number": "4111 1111 1111 1111", "email": form.email, "phone": form.phone}
}

test_readers_of_personal_data_see_it if found(record, ["personal-data"], 3) == {}

test_results_that_are_not_confidential_stay_as_they_are if found(record, [], 1) == {}

test_a_result_without_any_is_left if found("4 commits, 2026-01-02", [], 3) == {}

test_a_kind_that_is_none_withholds if {
	got := personal_data_redact.deny with input as {"tool": {"confidentiality": 2}, "agent": {"labels": []}, "result": {"text": "x"}}
		with data.personal.redact.kinds as ["emails"]
	{member.code | some member in got} == {"personal_kind_unknown"}
}
