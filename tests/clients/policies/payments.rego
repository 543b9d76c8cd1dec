# METADATA
# title: Payments have a limit and a cap
# custom:
#   id: clients.payments
#   owner: test
#   severity: high
#   codes: [payment_within_limit, payment_over_limit, payment_over_cap]
#   scope: {effects: [money]}
package wardgate.rules.payments

import rego.v1

amount := input.call.args.amount_micro_usd

allow contains {"code": "payment_within_limit", "message": "the payment is within the limit"} if {
	amount <= data.limit_micro_usd
}

escalate contains {
	"code": "payment_over_limit",
	"message": sprintf("%v micro-USD is above the limit of %v", [amount, data.limit_micro_usd]),
} if {
	amount > data.limit_micro_usd
	amount <= data.cap_micro_usd
}

deny contains {
	"code": "payment_over_cap",
	"message": sprintf("%v micro-USD is above the cap of %v", [amount, data.cap_micro_usd]),
	"remedy": "payments of this size are not made by agents",
} if {
	amount > data.cap_micro_usd
}
