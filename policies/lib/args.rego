# Helpers over the arguments of a call. Import the rule, not the package: 'import data.wardgate.lib.args.named'.
# The engine evaluates everything that an imported name stands for. All text of the arguments as one string,
# for patterns that may be anywhere, is input.call.text.
package wardgate.lib.args

import rego.v1

# Arguments that hold others. Most calls have none, so what looks below the top starts here.
composites contains value if {
	some value in input.call.args
	type_name(value) in ["object", "array"]
}

# Texts of the arguments with one of these names (lower case), at any depth.
named(names) := {flat(value) |
	walk(input.call.args, [path, value])
	name := path[count(path) - 1]
	is_string(name)
	lower(name) in names
}

# Every single text in the arguments with one of these names: 'named' joins the texts of a list, this does not.
each_named(names) := {text |
	walk(input.call.args, [path, value])
	name := path[count(path) - 1]
	is_string(name)
	lower(name) in names
	walk(value, [_, text])
	is_string(text)
}

# A value as one text: a list of words counts as the words in a row.
flat(value) := value if is_string(value)

flat(value) := concat(" ", [text | walk(value, [_, text]); is_string(text)]) if not is_string(value)
