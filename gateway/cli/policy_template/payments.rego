# METADATA
# title: Payments above the limit need a person
# description: >-
#   A payment up to the limit passes, above it a person decides. An amount that is missing or is no positive
#   number is refused: what cannot be compared with a limit is not within it.
# custom:
#   id: payments.limit
#   owner: OWNER
#   severity: high
#   mode: enforce
#   scope: {effects: [money]}
#   codes: [payment_within_limit, payment_over_limit, payment_amount_unclear]
package wardgate.rules.payments_limit

import rego.v1

amount := input.call.args.amount_micro_usd if {
	is_number(input.call.args.amount_micro_usd)
	input.call.args.amount_micro_usd > 0
}

allow contains {"code": "payment_within_limit", "message": "within the unattended limit"} if {
	amount <= data.limits.payments.unattended_micro_usd
}

escalate contains {
	"code": "payment_over_limit",
	"message": sprintf("%v micro-USD is above the unattended limit", [amount]),
	"remedy": "wait for the approval, or pay less",
	"approval": {"chain": "payments"},
} if {
	amount > data.limits.payments.unattended_micro_usd
}

deny contains {
	"code": "payment_amount_unclear",
	"message": "the amount is missing or not a positive number of micro-USD",
	"remedy": "give 'amount_micro_usd' as a number; 1000000 is one dollar",
} if {
	not amount
}
