# METADATA
# title: A mandate bounds the arguments of its tools
# description: >-
#   Holds the arguments of a call against the bounds that its mandate sets by JSON pointer. Elements of a list are held one
#   by one; what is absent or null breaks only 'required'. A bound that this module does not know is broken by every
#   value. Without a mandate the module does nothing.
# custom:
#   id: access.mandate_arguments
#   owner: wardgate
#   severity: high
#   mode: enforce
#   codes: [mandate_argument]
#   scope: {kinds: [tool]}
package wardgate.rules.mandate_arguments

import rego.v1

deny contains {
	"code": "mandate_argument",
	"message": sprintf("%s is not within the mandate (%s)", [pointer, word]),
	"remedy": remedy(word, limit, pointer),
} if {
	some pattern, pointers in input.mandate.arguments
	glob.match(pattern, ["/"], input.tool.target)
	some pointer, bounds in pointers
	not easily(pointer, bounds)
	some word, limit in bounds
	broken(word, limit, pointer)
}

# By a rule of its own: an argument that is not there would make 'not fits(plain(…), …)' undefined, not true.
easily(pointer, bounds) if fits(plain(pointer), bounds)

# What most arguments are: a number or a text at the top, under the usual bounds. Anything else is looked at word by word
# below, which says the same and takes three times as long.
fits(value, bounds) if {
	is_number(value)
	object.get(bounds, "min", value) <= value
	object.get(bounds, "max", value) >= value
	value in object.get(bounds, "one_of", [value])
	count(object.remove(bounds, ["min", "max", "one_of", "required"])) == 0
}

fits(value, bounds) if {
	is_string(value)
	value in object.get(bounds, "one_of", [value])
	count(value) <= object.get(bounds, "max_length", count(value))
	count(object.remove(bounds, ["max_length", "one_of", "required"])) == 0
}

plain(pointer) := input.call.args[name] if {
	name := substring(pointer, 1, -1)
	not contains(name, "/")
	not contains(name, "~")
}

broken("required", _, pointer) if not given(pointer)

# 'false' is the same as nothing for a flag.
broken("forbidden", _, pointer) if value_at(pointer) != false

broken(word, limit, pointer) if {
	not word in ["required", "forbidden"]
	some value in each(value_at(pointer))
	not holds(word, limit, value)
}

given(pointer) if value_at(pointer) != null

each(value) := value if is_array(value)

each(value) := [value] if not is_array(value)

holds("min", limit, value) if {
	is_number(value)
	value >= limit
}

holds("max", limit, value) if {
	is_number(value)
	value <= limit
}

holds("one_of", limit, value) if value in limit

holds("max_length", limit, value) if {
	is_string(value)
	count(value) <= limit
}

# Against the whole value: a pattern that fits a part of it says nothing about the rest.
holds("pattern", limit, value) if {
	is_string(value)
	regex.match(concat("", ["^(?:", limit, ")$"]), value)
}

remedy("required", _, pointer) := sprintf("give %s", [pointer])

remedy("forbidden", _, pointer) := sprintf("leave %s out", [pointer])

remedy(word, limit, pointer) := sprintf("give a value for %s within '%s': %v", [pointer, word, limit]) if {
	not word in ["required", "forbidden"]
}

# The value at a JSON pointer of at most four levels, undefined when there is none or null.
value_at(pointer) := value if {
	parts := [replace(replace(part, "~1", "/"), "~0", "~") | some part in split(pointer, "/")]
	value := reached(parts)
	value != null
}

reached(parts) := step(input.call.args, parts[1]) if count(parts) == 2

reached(parts) := step(step(input.call.args, parts[1]), parts[2]) if count(parts) == 3

reached(parts) := step(step(step(input.call.args, parts[1]), parts[2]), parts[3]) if count(parts) == 4

reached(parts) := step(step(step(step(input.call.args, parts[1]), parts[2]), parts[3]), parts[4]) if count(parts) == 5

step(value, key) := value[key] if is_object(value)

step(value, key) := value[to_number(key)] if {
	is_array(value)
	regex.match(`^(0|[1-9][0-9]{0,8})$`, key)
}
