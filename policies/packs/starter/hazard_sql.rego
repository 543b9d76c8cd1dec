# METADATA
# title: No destructive SQL
# description: Stops dropping tables, and deleting or updating without a WHERE, in arguments that hold SQL by name.
# custom:
#   id: starter.hazard_sql
#   owner: security
#   severity: critical
#   codes: [hazardous_sql]
#   scope: {kinds: [tool], arguments: [data.hazards.sql.arguments]}
package wardgate.rules.hazard_sql

import data.wardgate.lib.args.composites
import data.wardgate.lib.args.flat
import rego.v1

deny contains {
	"code": "hazardous_sql",
	"message": "the statement drops or truncates a whole object",
	"remedy": "ask the owner of the database to do this",
} if {
	some statement in statements
	regex.match(data.hazards.sql.drop.pattern, statement)
}

deny contains {
	"code": "hazardous_sql",
	"message": "the statement changes every row: it has no WHERE",
	"remedy": "add a WHERE that names the rows",
} if {
	some statement in statements
	regex.match(data.hazards.sql.unbounded.pattern, statement)
	not regex.match(data.hazards.sql.bound.pattern, statement)
}

# One text may hold several statements; a WHERE in one does not bound the others.
statements contains statement if {
	some text in texts
	some statement in split(text, ";")
}

texts contains flat(value) if {
	some name, value in input.call.args
	lower(name) in data.hazards.sql.arguments
}

texts contains flat(value) if {
	some composite in composites
	walk(composite, [path, value])
	name := path[count(path) - 1]
	is_string(name)
	lower(name) in data.hazards.sql.arguments
}
