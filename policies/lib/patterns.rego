# Looking for any of a list of patterns in data.
package wardgate.lib.patterns

import rego.v1

# Names of the patterns of a list that match a text. 'any_pattern', the union of the list, is made when the
# policy is loaded; most texts match none, and one search says so.
matched(list, text) := {name | some name, pattern in list.patterns; regex.match(pattern, text)} if {
	possible(list, text)
}

possible(list, text) if regex.match(list.any_pattern, text)

# Under an engine that was given the data as it is written there is no union.
possible(list, _) if not list.any_pattern
