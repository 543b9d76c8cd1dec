# METADATA
# title: A mandate bounds what is done under it
# description: >-
#   Under a mandate only its tools may be used, with the risks it names; where it lets everything be read, tools that only
#   read, and send nothing out with it, need not be listed. Without a mandate the module does nothing, except for the risks in data.mandates.required_for.
# custom:
#   id: access.mandate_allowed
#   owner: wardgate
#   severity: high
#   mode: enforce
#   codes: [outside_mandate, mandate_unclear, mandate_missing]
#   scope: {kinds: [tool]}
package wardgate.rules.mandate_allowed

import rego.v1

deny contains {
	"code": "outside_mandate",
	"message": sprintf("the mandate does not cover %s, which is %s", [input.tool.target, input.tool.risk]),
	"remedy": "use a tool of the mandate, or ask whoever gave it",
} if {
	readable
	not covered
}

deny contains {
	"code": "mandate_unclear",
	"message": "the mandate does not say which tools and risks it covers",
	"remedy": "ask for a mandate with 'tools', 'reads' and 'risks'",
} if {
	input.mandate
	not readable
}

deny contains {
	"code": "mandate_missing",
	"message": sprintf("tools that are %s are used only under a mandate", [input.tool.risk]),
	"remedy": "ask a person for a mandate",
} if {
	not input.mandate
	input.tool.risk in data.mandates.required_for
}

readable if {
	is_array(input.mandate.tools)
	is_array(input.mandate.risks)
	input.mandate.reads in ["listed", "any"]
}

covered if {
	input.tool.risk in input.mandate.risks
	named
}

named if {
	input.mandate.reads == "any"
	input.tool.risk == "read"

	# What is read with an address of the agent's making tells its host something.
	not sends
}

sends if "egress" in input.tool.effects

named if {
	readable
	some pattern in input.mandate.tools
	glob.match(pattern, ["/"], input.tool.target)
}
