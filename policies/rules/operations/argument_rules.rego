# METADATA
# title: Arguments within bounds
# description: >-
#   Holds the arguments of a tool against data.arguments.tools: required or forbidden, of a type, between min and
#   max, one of a list or none of it, of a form or never of one, no longer than so much. Elements of a list are held
#   one by one. A word in the data that is no bound is refused, not ignored.
# custom:
#   id: operations.argument_rules
#   owner: wardgate
#   severity: high
#   mode: enforce
#   codes: [argument_missing, argument_forbidden, argument_out_of_bounds, argument_bound_unknown]
#   scope: {kinds: [tool], tools: [data.arguments.tools]}
package wardgate.rules.argument_rules

import rego.v1

# Of both 'git/git_push' and '*/git_push', for whatever the upstream is called.
bounds contains {"name": name, "bound": bound} if {
	some key in [input.tool.target, concat("/", ["*", input.tool.name])]
	some name, bound in data.arguments.tools[key]
}

deny contains {
	"code": "argument_missing",
	"message": sprintf("'%s' must be given", [item.name]),
	"remedy": "give the argument",
} if {
	some item in bounds
	item.bound.required
	not item.name in object.keys(input.call.args)
}

deny contains {
	"code": "argument_forbidden",
	"message": sprintf("'%s' must not be given", [item.name]),
	"remedy": "leave the argument out",
} if {
	some item in bounds
	item.bound.forbidden
	given := input.call.args[item.name]
	not given in [false, null]
}

deny contains {
	"code": "argument_out_of_bounds",
	"message": sprintf("'%s' is not within its bounds (%s)", [item.name, broken]),
	"remedy": sprintf("give a value for '%s' that is within them", [item.name]),
} if {
	some item in bounds
	some value in values(input.call.args[item.name])
	some broken, limit in item.bound
	not broken in ["required", "forbidden"]
	not holds(broken, limit, value)
}

deny contains {
	"code": "argument_bound_unknown",
	"message": sprintf("the policy bounds '%s' by '%s', which is no bound", [item.name, word]),
	"remedy": "tell the owner of the policy",
} if {
	some item in bounds
	some word, _ in item.bound
	not word in ["required", "forbidden", "type", "min", "max", "enum", "not_enum", "pattern", "never", "max_length"]
}

values(given) := given if is_array(given)

values(given) := [given] if not is_array(given)

# A number as text, or text where a number belongs, is not within any bound.
holds("type", limit, value) if type_name(value) == limit

holds("min", limit, value) if {
	is_number(value)
	value >= limit
}

holds("max", limit, value) if {
	is_number(value)
	value <= limit
}

holds("enum", limit, value) if value in limit

holds("not_enum", limit, value) if {
	is_string(value)
	not lower(value) in limit
}

holds("pattern", limit, value) if {
	is_string(value)
	regex.match(limit, value)
}

holds("never", limit, value) if {
	is_string(value)
	not regex.match(limit.pattern, lower(value))
}

holds("max_length", limit, value) if {
	is_string(value)
	count(value) <= limit
}
