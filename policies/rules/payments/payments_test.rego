package wardgate.tests.payments

import data.wardgate.rules.payments
import rego.v1

codes(members) := {member.code | some member in members}

asked(target, name, args) := got if {
	got := {"allow": codes(payments.allow), "escalate": codes(payments.escalate), "deny": codes(payments.deny)} with input as {"tool": {"target": target, "name": name}, "call": {"args": args}}
}

pay(amount) := asked("office/pay_invoice", "pay_invoice", {"amount_micro_usd": amount})

unclear := {"allow": set(), "escalate": set(), "deny": {"payment_amount_unclear"}}

test_a_small_payment_passes if pay(50000000) == {"allow": {"payment_within_limit"}, "escalate": set(), "deny": set()}

test_a_larger_payment_asks_the_chain if {
	pay(50000001) == {"allow": set(), "escalate": {"payment_over_limit"}, "deny": set()}
	got := payments.escalate with input as {"tool": {"target": "a/b", "name": "b"}, "call": {"args": {"amount_micro_usd": 50000001}}}
	{member.approval.chain | some member in got} == {"payments-high"}
}

test_a_payment_above_the_cap_is_refused if pay(10000000001) == {"allow": set(), "escalate": set(), "deny": {"payment_over_cap"}}

test_an_unclear_amount_is_refused if {
	every amount in ["50", -1, 0, 1.5, null, true, [1], {"a": 1}] {
		pay(amount) == unclear
	}
	asked("office/pay_invoice", "pay_invoice", {}) == unclear
}

stripe(args) := asked("stripe/create_payment_intent", "create_payment_intent", args)

test_an_amount_in_cents_is_what_it_is_worth if {
	stripe({"amount": 5000, "currency": "USD"}).allow == {"payment_within_limit"}
	stripe({"amount": 5001, "currency": "usd"}).escalate == {"payment_over_limit"}
}

test_another_currency_cannot_be_compared if {
	stripe({"amount": 100, "currency": "eur"}) == unclear
	stripe({"amount": 100}) == unclear
}
