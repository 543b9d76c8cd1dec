package wardgate.tests.payment_recipients

import data.wardgate.rules.payment_recipients
import rego.v1

codes(members) := {member.code | some member in members}

asked(args, known) := got if {
	got := codes(payment_recipients.escalate) with input.call.args as args with data.payments.recipients as known
}

test_a_known_recipient_is_paid if asked({"payee_iban": "de89 3704 0044 0532 0130 00"}, ["DE89370400440532013000"]) == set()

test_somebody_else_needs_a_person if {
	asked({"payee_iban": "DE00"}, ["DE89370400440532013000"]) == {"recipient_not_listed"}
	asked({"transfer": {"to_account": "X"}}, ["Y"]) == {"recipient_not_listed"}
}

test_an_empty_list_switches_it_off if asked({"payee_iban": "DE00"}, []) == set()
