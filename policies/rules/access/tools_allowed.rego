# METADATA
# title: Only the tools named for an agent's labels
# description: >-
#   A tool that no label of the agent lists in data.tools.allowed is refused, whatever its risk. Under a mandate its tools
#   count as listed where data.tools.mandate_suffices says so, and reads where it lets everything be read.
# custom:
#   id: access.tools_allowed
#   owner: wardgate
#   severity: high
#   mode: enforce
#   codes: [tool_not_listed]
#   scope: {kinds: [tool, prompt, resource, completion, subscription]}
package wardgate.rules.tools_allowed

import rego.v1

deny contains {
	"code": "tool_not_listed",
	"message": sprintf("%s is not among the tools this agent was given", [input.tool.target]),
	"remedy": "use a listed tool, or ask the owner of the policy to list this one for a label of yours",
} if {
	not listed
}

listed if {
	data.tools.mandate_suffices
	some pattern in input.mandate.tools
	glob.match(pattern, ["/"], input.tool.target)
}

listed if {
	data.tools.mandate_suffices
	input.mandate.reads == "any"
	input.tool.risk == "read"
	not sends
}

sends if "egress" in input.tool.effects

listed if {
	some label in input.agent.labels
	some pattern in data.tools.allowed[label]
	glob.match(pattern, ["/"], input.tool.target)
}
