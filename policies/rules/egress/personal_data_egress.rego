# METADATA
# title: Personal data stays inside
# description: >-
#   A tool that sends data out may carry only as many different card numbers, IBANs, mail addresses, phone numbers and
#   national ids as data.personal allows; above that a person is asked or the call is refused. Arguments that address
#   the message do not count. Text is searched, not numbers, files or pictures.
# custom:
#   id: egress.personal_data_egress
#   owner: wardgate
#   severity: high
#   mode: enforce
#   codes: [personal_data_refused, personal_data_needs_person, personal_kind_unknown]
#   scope: {effects: [egress]}
package wardgate.rules.personal_data_egress

import data.wardgate.lib.personal.cards
import data.wardgate.lib.personal.emails
import data.wardgate.lib.personal.ibans
import data.wardgate.lib.personal.numbered
import data.wardgate.lib.personal.phones
import rego.v1

deny contains {
	"code": "personal_data_refused",
	"message": sprintf("the arguments hold personal data that does not leave (%s)", [kind]),
	"remedy": "leave it out, or refer to the record by its id",
} if {
	suspicious
	some kind, most in data.personal.refuse_above
	count(found[kind]) > most
}

escalate contains {
	"code": "personal_data_needs_person",
	"message": sprintf("the arguments hold more personal data than leaves without a person (%s)", [kind]),
	"remedy": "leave it out, or wait for the approval",
	"approval": {"chain": data.personal.chain},
} if {
	suspicious
	some kind, most in data.personal.ask_above
	count(found[kind]) > most
}

text := concat("\n", [written |
	some name, value in input.call.args
	not lower(name) in data.personal.addressing
	walk(value, [_, written])
	is_string(written)
])

# A misspelt kind in the data would be a limit that never applies.
deny contains {
	"code": "personal_kind_unknown",
	"message": sprintf("the policy limits '%s', which is no kind of personal data", [kind]),
	"remedy": "tell the owner of the policy",
} if {
	some kind, _ in object.union(data.personal.refuse_above, data.personal.ask_above)
	not kind in ["card_number", "iban", "email", "phone", "national_id"]
}

# A quick look before anything is counted: at numbers, and whether there are addresses enough.
suspicious if numbered(input.call.text)

suspicious if {
	some limits in [data.personal.refuse_above, data.personal.ask_above]
	count(split(input.call.text, "@")) > limits.email + 1
}

suspicious if count(data.personal.national_ids.enabled) > 0

found := {
	"card_number": cards(text),
	"iban": ibans(text),
	"email": emails(text),
	"phone": phones(text),
	"national_id": {id |
		some country in data.personal.national_ids.enabled

		# Of a country without a pattern everything counts: a misspelt name must not be a search that finds nothing.
		some id in regex.find_n(object.get(data.personal.national_ids.patterns, country, ""), text, -1)
	},
}
