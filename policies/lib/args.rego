# Helpers over the arguments of a call.
package wardgate.lib.args

import rego.v1

# Every string in the arguments, however deep, names of fields included.
strings contains text if {
	walk(input.call.args, [_, text])
	is_string(text)
}

strings contains name if {
	walk(input.call.args, [path, _])
	some name in path
	is_string(name)
}

# All of them as one text, for patterns that may be anywhere.
joined := concat("\n", strings)

# Strings given under one of these argument names, at any depth, also inside a list.
named(names) := {text |
	walk(input.call.args, [path, text])
	is_string(text)
	some name in path
	lower(sprintf("%v", [name])) in names
}
