# Looking for any of a list of patterns in data.
package wardgate.lib.patterns

import rego.v1

# Names of the patterns of a list that match a text; undefined when none does.
matched(list, text) := {name | some name, pattern in list.patterns; regex.match(pattern, text)} if {
	regex.match(object.get(list, "any_pattern", ""), text)
}

# Whether any of them does. 'any_pattern', the union of the list, is made when the policy is loaded, and most texts
# match none. Under an engine that was given the data as it is written there is no union: '' matches every text.
possible(list, text) if regex.match(object.get(list, "any_pattern", ""), text)
