# METADATA
# title: Payment limits
# description: >-
#   A payment up to the unattended limit passes, above it a person of the chain decides, above the hard cap it
#   is refused. An amount that is no positive whole number of micro-USD is refused: what cannot be compared
#   with a limit is not within it.
# custom:
#   id: strict.payments
#   owner: security
#   severity: critical
#   codes: [payment_within_limit, payment_over_limit, payment_over_cap, payment_amount_unclear]
#   scope: {effects: [money]}
package wardgate.rules.payments

import rego.v1

amount := input.call.args.amount_micro_usd if {
	is_number(input.call.args.amount_micro_usd)
	input.call.args.amount_micro_usd > 0
	floor(input.call.args.amount_micro_usd) == input.call.args.amount_micro_usd
}

allow contains {"code": "payment_within_limit", "message": "the payment is within the unattended limit"} if {
	amount <= data.payments.unattended_micro_usd
}

escalate contains {
	"code": "payment_over_limit",
	"message": sprintf("%v micro-USD is above the unattended limit of %v", [amount, data.payments.unattended_micro_usd]),
	"remedy": "wait for the approval; splitting the payment does not change what it is",
	"approval": {"chain": data.payments.chain},
} if {
	amount > data.payments.unattended_micro_usd
	amount <= data.payments.hard_cap_micro_usd
}

deny contains {
	"code": "payment_over_cap",
	"message": sprintf("%v micro-USD is above the cap of %v", [amount, data.payments.hard_cap_micro_usd]),
	"remedy": "payments of this size are not made by agents",
} if {
	amount > data.payments.hard_cap_micro_usd
}

deny contains {
	"code": "payment_amount_unclear",
	"message": "the amount is missing or not a positive whole number of micro-USD",
	"remedy": "give 'amount_micro_usd' as a whole number; 1000000 is one dollar",
} if {
	not amount
}
