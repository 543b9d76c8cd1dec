# METADATA
# title: Quantities within reason
# description: >-
#   Where a call that changes something says how many, the number must be positive and within
#   data.quantities.limits: above 'ask' a person decides, above 'refuse' nobody does.
# custom:
#   id: payments.quantities
#   owner: wardgate
#   severity: high
#   mode: enforce
#   codes: [quantity_over_limit, quantity_over_cap, quantity_unclear]
#   scope: {risks: [reversible, compensable, irreversible], arguments: [data.quantities.limits]}
package wardgate.rules.quantities

import rego.v1

given contains {"name": name, "value": value, "limit": limit} if {
	some name, value in input.call.args
	limit := data.quantities.limits[lower(name)]
}

given contains {"name": name, "value": value, "limit": limit} if {
	some top in input.call.args
	type_name(top) in ["object", "array"]
	walk(top, [path, value])
	name := path[count(path) - 1]
	is_string(name)
	limit := data.quantities.limits[lower(name)]
}

escalate contains {
	"code": "quantity_over_limit",
	"message": sprintf("'%s' is above %v", [item.name, item.limit.ask]),
	"remedy": "ask for fewer, or wait for the approval",
	"approval": {"chain": data.quantities.chain},
} if {
	some item in given
	positive(item.value)
	item.value > item.limit.ask
	item.value <= item.limit.refuse
}

deny contains {
	"code": "quantity_over_cap",
	"message": sprintf("'%s' is above %v", [item.name, item.limit.refuse]),
	"remedy": sprintf("ask for at most %v", [item.limit.refuse]),
} if {
	some item in given
	positive(item.value)
	item.value > item.limit.refuse
}

deny contains {
	"code": "quantity_unclear",
	"message": sprintf("'%s' is not a positive number", [item.name]),
	"remedy": "give a positive number",
} if {
	some item in given
	not positive(item.value)
}

positive(value) if {
	is_number(value)
	value > 0
}
