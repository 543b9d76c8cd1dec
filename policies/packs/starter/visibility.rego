# METADATA
# title: Labels bound what an agent sees
# description: >-
#   An agent with a label of data.visibility.labels is shown only tools of the risks listed there. What it is
#   not shown it cannot call.
# custom:
#   id: starter.visibility
#   owner: security
#   severity: low
#   phase: list
#   codes: [hidden_by_label]
package wardgate.rules.visibility

import rego.v1

deny contains {"code": "hidden_by_label", "message": sprintf("not shown to agents labelled %s", [label])} if {
	some label in input.agent.labels
	risks := data.visibility.labels[label]
	not input.tool.risk in risks
}
