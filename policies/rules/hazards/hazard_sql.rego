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
import rego.v1

deny contains {
	"code": "hazardous_sql",
	"message": sprintf("the statement destroys or escapes the database (%s)", [name]),
	"remedy": "ask the owner of the database to do this",
} if {
	some text in texts
	some name in matched(data.hazards.sql, text)
}

deny contains {
	"code": "hazardous_sql",
	"message": "the statement changes every row: it has no WHERE that bounds it",
	"remedy": "add a WHERE that names the rows",
} if {
	some text in texts
	regex.match(data.hazards.sql.unbounded.pattern, text)

	# One text may hold several statements; a WHERE in one does not bound the others.
	some statement in split(text, ";")
	regex.match(data.hazards.sql.unbounded.pattern, statement)
	not bounded(statement)
}

bounded(statement) if {
	regex.match(data.hazards.sql.bound.pattern, statement)
	not regex.match(data.hazards.sql.always_true.pattern, statement)
}

# What stands between two words may be a comment.
texts contains text if {
	some written in named(data.hazards.sql.arguments)
	text := without_comments(written)
}

without_comments(text) := text if not regex.match(`/\*|--`, text)

without_comments(text) := regex.replace(text, `(?s)/\*.*?\*/|--[^\n]*`, " ") if regex.match(`/\*|--`, text)
