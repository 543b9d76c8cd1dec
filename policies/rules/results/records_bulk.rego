# METADATA
# title: Customer records in small numbers
# description: >-
#   Tools that hand out many confidential records at once need a person. Where a call says how many it wants,
#   the number is lowered to the limit; where it lists which, a longer list is refused.
# custom:
#   id: results.records_bulk
#   owner: wardgate
#   severity: high
#   mode: enforce
#   codes: [bulk_export_needs_person, too_many_records, record_count_unclear]
#   scope: {confidentiality: 1}
package wardgate.rules.records_bulk

import rego.v1

confidential if input.tool.confidentiality >= data.records.confidentiality

escalate contains {
	"code": "bulk_export_needs_person",
	"message": "this hands out many confidential records at once",
	"remedy": "ask for the records you need one by one",
	"approval": {"chain": "default"},
} if {
	confidential
	some effect in input.tool.effects
	effect in data.records.bulk_effects
}

obligation contains {"kind": "cap", "value": {"pointer": concat("", ["/", name]), "max": data.records.max_per_call}} if {
	confidential
	some name in data.records.count_arguments
	is_number(input.call.args[name])
	input.call.args[name] > data.records.max_per_call
}

deny contains {
	"code": "record_count_unclear",
	"message": sprintf("'%s' is not a positive number", [name]),
	"remedy": sprintf("ask for at most %v records", [data.records.max_per_call]),
} if {
	confidential
	some name in data.records.count_arguments
	value := input.call.args[name]
	not positive(value)
}

deny contains {
	"code": "too_many_records",
	"message": sprintf("'%s' lists more than %v records", [name, data.records.max_per_call]),
	"remedy": "ask for fewer records at a time",
} if {
	confidential
	some name, value in input.call.args
	is_array(value)
	count(value) > data.records.max_per_call
}

positive(value) if {
	is_number(value)
	value > 0
}
