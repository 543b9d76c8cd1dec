# METADATA
# title: Results fit the schema of their tool
# description: >-
#   A tool that declares an output schema answers with what fits it, or its result is withheld: what is built on the
#   schema would read something else, or nothing. A schema that cannot be used (a remote reference, a check without
#   bounds) is fitted by nothing.
# custom:
#   id: results.output_schema
#   owner: wardgate
#   severity: medium
#   phase: result
#   mode: enforce
#   codes: [result_schema_violated]
#   scope: {kinds: [tool], output_schema: true}
package wardgate.rules.output_schema

import rego.v1

deny contains {
	"code": "result_schema_violated",
	"message": "the result does not fit the schema that the tool declares",
	"remedy": "tell the owner of the tool server",
} if {
	input.result.schema == "violates"
}

deny contains {
	"code": "result_schema_violated",
	"message": "the tool declares a schema of its results, and this result has no structured content",
	"remedy": "tell the owner of the tool server",
} if {
	input.result.schema == "missing"
}
