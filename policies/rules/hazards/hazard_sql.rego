# METADATA
# title: No destructive SQL
# description: >-
#   Stops dropping tables, reading the server's files and running its shell, and deleting or updating without a
#   WHERE that bounds anything, in arguments that hold SQL by name. Comments do not hide a statement.
# custom:
#   id: hazards.hazard_sql
#   owner: wardgate
#   severity: critical
#   mode: enforce
#   codes: [hazardous_sql]
#   scope: {kinds: [tool], arguments: [data.hazards.sql.arguments]}
package wardgate.rules.hazard_sql

import data.wardgate.lib.args.named
import data.wardgate.lib.patterns.matched
import data.wardgate.lib.patterns.possible
import rego.v1

deny contains {
	"code": "hazardous_sql",
	"message": sprintf("the statement destroys or escapes the database (%s)", [name]),
	"remedy": "ask the owner of the database to do this",
} if {
	some text in suspicious
	some name in matched(data.hazards.sql, text)
	not name in data.hazards.sql.second_look
}

deny contains {
	"code": "hazardous_sql",
	"message": "the statement changes every row: it has no WHERE that bounds it",
	"remedy": "add a WHERE that names the rows",
} if {
	some text in suspicious

	# One text may hold several statements; a WHERE in one does not bound the others.
	some statement in split(text, ";")
	regex.match(data.hazards.sql.patterns.changes_rows, statement)
	not bounded(statement)
}

bounded(statement) if {
	regex.match(data.hazards.sql.bound.pattern, statement)
	not regex.match(data.hazards.sql.always_true.pattern, statement)
}

# What stands between two words may be a comment. Most statements stop here: they match nothing.
suspicious contains regex.replace(text, `(?s)/\*.*?\*/|--[^\n]*`, " ") if {
	some text in named(data.hazards.sql.arguments)
	possible(data.hazards.sql, text)
}
