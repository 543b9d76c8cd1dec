# METADATA
# title: Labels and environments bound what an agent sees
# description: >-
#   An agent with a label of data.visibility.labels, or in an environment of data.visibility.environments, is
#   shown only tools of the risks listed there. What it is not shown it cannot call.
# custom:
#   id: access.visibility
#   owner: wardgate
#   severity: low
#   mode: enforce
#   phase: list
#   codes: [hidden_by_label, hidden_in_environment]
package wardgate.rules.visibility

import rego.v1

deny contains {"code": "hidden_by_label", "message": sprintf("not shown to agents labelled %s", [label])} if {
	some label in input.agent.labels
	risks := data.visibility.labels[label]
	not input.tool.risk in risks
}

deny contains {"code": "hidden_in_environment", "message": sprintf("not shown in %s", [input.environment])} if {
	risks := data.visibility.environments[input.environment]
	not input.tool.risk in risks
}
