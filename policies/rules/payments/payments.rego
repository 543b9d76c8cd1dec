# METADATA
# title: Payment limits
# description: >-
#   A payment up to the unattended limit passes, above it a person of the chain decides, above the hard cap it
#   is refused. data.payments.tools says where a tool has its amount and what one unit is worth. An amount that is no
#   positive whole number, or in another currency, is refused: what cannot be compared with a limit is not within it.
# custom:
#   id: payments.payments
#   owner: wardgate
#   severity: critical
#   mode: enforce
#   codes: [payment_within_limit, payment_over_limit, payment_over_cap, payment_amount_unclear]
#   scope: {effects: [money]}
package wardgate.rules.payments

import rego.v1

# How this tool writes amounts: its own entry, one for tools of its name, or micro-USD.
form := object.get(
	data.payments.tools, input.tool.target,
	object.get(data.payments.tools, concat("/", ["*", input.tool.name]), {"amount": "amount_micro_usd", "unit_micro_usd": 1}),
)

given := input.call.args[form.amount]

amount := given * form.unit_micro_usd if {
	is_number(given)
	given > 0
	floor(given) == given
	right_currency
}

right_currency if not form.currency

right_currency if lower(input.call.args[form.currency]) == form.is

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
	"message": sprintf("'%s' is not a positive whole number in the currency of the limits", [form.amount]),
	"remedy": sprintf("give '%s' as a whole number; one unit is %v micro-USD", [form.amount, form.unit_micro_usd]),
} if {
	not amount
}
