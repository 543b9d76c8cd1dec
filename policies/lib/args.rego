# Helpers over the arguments of a call. Import the rule, not the package: 'import data.wardgate.lib.args.joined'.
# The engine evaluates everything that an imported name stands for.
package wardgate.lib.args

import rego.v1

# Arguments that hold others. Most calls have none, so what looks below the top starts here.
composites contains value if {
	some value in input.call.args
	type_name(value) in ["object", "array"]
}

# Every string in the arguments, however deep, names of fields included.
strings contains name if some name, _ in input.call.args

strings contains value if {
	some value in input.call.args
	is_string(value)
}

strings contains text if {
	some value in composites
	walk(value, [_, text])
	is_string(text)
}

strings contains name if {
	some value in composites
	walk(value, [path, _])
	some name in path
	is_string(name)
}

# All of them as one text, for patterns that may be anywhere.
joined := concat("\n", strings)

# A value as one text: a list of words counts as the words in a row.
flat(value) := value if is_string(value)

flat(value) := concat(" ", [text | walk(value, [_, text]); is_string(text)]) if not is_string(value)
