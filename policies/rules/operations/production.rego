# METADATA
# title: Production is changed only by those meant to
# description: >-
#   In a production environment an agent needs a label to change anything, and a tool that the operator has not
#   described may not be used to change things at all.
# custom:
#   id: operations.production
#   owner: wardgate
#   severity: critical
#   mode: enforce
#   codes: [production_not_permitted, production_tool_undescribed]
#   scope: {risks: [reversible, compensable, irreversible]}
package wardgate.rules.production

import rego.v1

in_production if input.environment in data.production.environments

deny contains {
	"code": "production_not_permitted",
	"message": sprintf("changes in %s need the label %s", [input.environment, data.production.label]),
	"remedy": "work in another environment, or ask the operator for the label",
} if {
	in_production
	not data.production.label in input.agent.labels
}

deny contains {
	"code": "production_tool_undescribed",
	"message": sprintf("nobody has described what %s does, so it is not used in production", [input.tool.target]),
	"remedy": "ask the operator to add the tool to the configuration",
} if {
	in_production
	input.tool.source == "default"
}
