# METADATA
# title: Money goes to known recipients
# description: >-
#   A payment to somebody who is not in data.payments.recipients needs a person. An empty list
#   switches the module off; a payment that names nobody in an argument of data.payments.recipient_arguments goes where its operator pointed it.
# custom:
#   id: payments.payment_recipients
#   owner: wardgate
#   severity: high
#   mode: enforce
#   codes: [recipient_not_listed]
#   scope: {effects: [money], arguments: [data.payments.recipient_arguments]}
package wardgate.rules.payment_recipients

import data.wardgate.lib.args.named
import rego.v1

escalate contains {
	"code": "recipient_not_listed",
	"message": "the recipient is not among those who are paid without a person",
	"remedy": "check the recipient against the invoice, and wait for the approval",
	"approval": {"chain": data.payments.chain},
} if {
	count(data.payments.recipients) > 0
	some recipient in named(data.payments.recipient_arguments)
	not listed(recipient)
}

listed(recipient) if plain(recipient) in {plain(known) | some known in data.payments.recipients}

plain(text) := lower(replace(text, " ", ""))
