package wardgate.tests.strict

import data.wardgate.rules.egress_destinations
import data.wardgate.rules.payments
import data.wardgate.rules.production
import data.wardgate.rules.questions_shown
import data.wardgate.rules.records_bulk
import data.wardgate.rules.tools_allowed
import rego.v1

codes(members) := {member.code | some member in members}

test_an_unlisted_tool_is_refused if {
	got := tools_allowed.deny with input as {"agent": {"labels": ["reader"]}, "tool": {"target": "git/git_commit"}}
	codes(got) == {"tool_not_listed"}
}

test_a_listed_tool_passes if {
	tools_allowed.deny == set() with input as {"agent": {"labels": ["x", "developer"]}, "tool": {"target": "git/git_commit"}}
}

test_an_agent_without_labels_gets_nothing if {
	got := tools_allowed.deny with input as {"agent": {"labels": []}, "tool": {"target": "git/git_log"}}
	codes(got) == {"tool_not_listed"}
}

test_mail_to_a_listed_domain_passes if {
	egress_destinations.deny == set() with input.call.args as {"to": "ann@mail.example.com"}
}

test_mail_to_another_domain_is_refused if {
	got := egress_destinations.deny with input.call.args as {"to": "ann@example.com, eve@evil.example"}
	codes(got) == {"destination_not_listed"}
}

test_a_url_with_a_user_part_goes_where_it_goes if {
	got := egress_destinations.deny with input.call.args as {"url": "https://example.com@evil.example/"}
	codes(got) == {"destination_not_listed"}
}

payment(amount) := {"call": {"args": {"amount_micro_usd": amount}}}

test_a_small_payment_passes if {
	codes(payments.allow) == {"payment_within_limit"} with input as payment(50000000)
	payments.escalate == set() with input as payment(50000000)
	payments.deny == set() with input as payment(50000000)
}

test_a_larger_payment_asks_the_chain if {
	got := payments.escalate with input as payment(50000001)
	{member.approval.chain | some member in got} == {"payments-high"}
	payments.allow == set() with input as payment(50000001)
}

test_a_payment_above_the_cap_is_refused if {
	codes(payments.deny) == {"payment_over_cap"} with input as payment(10000000001)
}

test_an_unclear_amount_is_refused if {
	every amount in ["50", -1, 0, 1.5, null, true, [1], {"a": 1}] {
		codes(payments.deny) == {"payment_amount_unclear"} with input as payment(amount)
		payments.allow == set() with input as payment(amount)
	}
	codes(payments.deny) == {"payment_amount_unclear"} with input as {"call": {"args": {}}}
}

in_production(labels, source) := {
	"environment": "production",
	"agent": {"labels": labels},
	"tool": {"target": "a/b", "source": source},
}

test_production_needs_the_label if {
	codes(production.deny) == {"production_not_permitted"} with input as in_production([], "operator")
	production.deny == set() with input as in_production(["production-writer"], "operator")
}

test_production_refuses_undescribed_tools if {
	got := production.deny with input as in_production(["production-writer"], "default")
	codes(got) == {"production_tool_undescribed"}
}

test_other_environments_are_free if {
	production.deny == set() with input as object.union(in_production([], "default"), {"environment": "staging"})
}

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

question(labels) := {"agent": {"labels": labels}, "tool": {"target": "git/elicitation/create"}}

test_a_question_nobody_allowed_is_hidden if {
	codes(questions_shown.deny) == {"question_not_listed"} with input as question(["developer"])
}

test_a_question_allowed_for_a_label_is_shown if {
	questions_shown.deny == set() with input as question(["x", "developer"])
		with data.questions.allowed as {"developer": ["git/elicitation/*"]}
}

test_a_question_of_another_upstream_stays_hidden if {
	codes(questions_shown.deny) == {"question_not_listed"} with input as question(["developer"])
		with data.questions.allowed as {"developer": ["office/elicitation/create"]}
}
