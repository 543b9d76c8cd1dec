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
#   codes: [personal_kind_unknown]
#   scope: {confidentiality: 1}
package wardgate.rules.personal_data_redact

import data.wardgate.lib.personal.cards
import data.wardgate.lib.personal.form
import data.wardgate.lib.personal.ibans
import data.wardgate.lib.personal.most_checked
import data.wardgate.lib.personal.possible
import rego.v1

obligation contains {"kind": "redact", "value": {"patterns": patterns}} if {
	bounded
	possible(input.result.text)
	patterns := {kind: pattern | some kind in data.personal.redact.kinds; pattern := found[kind]}
	count(patterns) > 0
}

deny contains {"code": "personal_kind_unknown", "message": sprintf("the policy takes out '%s', which is no kind of personal data", [kind]), "remedy": "tell the owner of the policy"} if {
	bounded
	some kind in data.personal.redact.kinds
	not form[kind]
}

bounded if {
	input.tool.confidentiality >= data.personal.redact.confidentiality
	not data.personal.redact.reader_label in input.agent.labels
}

# Numbers with check digits are taken out word for word, for their form alone would also match order numbers.
found["card_number"] := word_for_word(numbers, form.card_number) if {
	numbers := cards(input.result.text)
	count(numbers) > 0
}

found["iban"] := word_for_word(numbers, form.iban) if {
	numbers := ibans(input.result.text)
	count(numbers) > 0
}

found["email"] := form.email

found["phone"] := form.phone

# No sign of a number means something in RE2 but '.'. Too many make no expression: then all of the form go.
word_for_word(numbers, _) := concat("|", [replace(number, ".", "[.]") | some number in numbers]) if {
	count(numbers) <= most_checked
}

word_for_word(numbers, whole) := whole if count(numbers) > most_checked
