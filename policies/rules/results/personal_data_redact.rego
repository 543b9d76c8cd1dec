# METADATA
# title: Personal data is taken out of confidential results
# description: >-
#   In results of at least the confidentiality of data.personal.redact, card numbers and IBANs whose check digits are
#   right, mail addresses and phone numbers are replaced, unless the agent carries the label of a reader.
# custom:
#   id: results.personal_data_redact
#   owner: wardgate
#   severity: high
#   phase: result
#   mode: enforce
#   codes: []
#   scope: {confidentiality: 1}
package wardgate.rules.personal_data_redact

import data.wardgate.lib.personal.cards
import data.wardgate.lib.personal.emails
import data.wardgate.lib.personal.ibans
import data.wardgate.lib.personal.phones
import data.wardgate.lib.personal.possible
import rego.v1

# What was found, word for word, is what is replaced: a form alone would also match order numbers.
obligation contains {"kind": "redact", "value": {"patterns": patterns}} if {
	input.tool.confidentiality >= data.personal.redact.confidentiality
	not data.personal.redact.reader_label in input.agent.labels
	possible(input.result.text)
	patterns := {kind: any_of(found[kind]) |
		some kind in data.personal.redact.kinds
		count(found[kind]) > 0
	}
	count(patterns) > 0
}

found := {
	"card_number": cards(input.result.text),
	"iban": ibans(input.result.text),
	"email": emails(input.result.text),
	"phone": phones(input.result.text),
}

# The forms let through no sign that means something in RE2 but '.', '+', '(' and ')'.
any_of(texts) := concat("|", [literal | some text in texts; literal := strings.replace_n(escapes, text)])

escapes := {".": "[.]", "+": "[+]", "(": "[(]", ")": "[)]"}
