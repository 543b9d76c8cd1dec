package wardgate.tests.payments_limit

import data.wardgate.rules.payments_limit
import rego.v1

codes(members) := {member.code | some member in members}

test_the_limit_itself_passes if {
	got := payments_limit.allow with input.call.args as {"amount_micro_usd": data.limits.payments.unattended_micro_usd}
	codes(got) == {"payment_within_limit"}
}

test_text_is_no_amount if {
	got := payments_limit.deny with input.call.args as {"amount_micro_usd": "1"}
	codes(got) == {"payment_amount_unclear"}
}
