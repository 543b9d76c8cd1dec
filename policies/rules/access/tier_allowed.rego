# METADATA
# title: Trust tiers bound what an agent may change
# description: >-
#   An agent may use tools of the risks that data.tiers.risks gives its trust tier. A tier that is not in the list is
#   refused. Where the gateway keeps no tiers the module does nothing, unless data.tiers.required says otherwise.
# custom:
#   id: access.tier_allowed
#   owner: wardgate
#   severity: high
#   mode: enforce
#   codes: [tier_too_low, tier_unknown]
#   scope: {kinds: [tool]}
package wardgate.rules.tier_allowed

import rego.v1

deny contains {
	"code": "tier_too_low",
	"message": sprintf("tier %v does not use tools that are %s", [input.trust.tier, input.tool.risk]),
	"remedy": "use a tool with less risk; a higher tier is earned",
} if {
	known
	not allowed
}

deny contains {
	"code": "tier_unknown",
	"message": "the trust tier of this agent is not known",
	"remedy": "ask the operator to give the agent a tier",
} if {
	data.tiers.required
	not known
}

# A tier that is no number is in no list, and must not count as none.
known if input.trust.tier != null

allowed if {
	is_number(input.trust.tier)
	floor(input.trust.tier) == input.trust.tier
	input.tool.risk in data.tiers.risks[format_int(input.trust.tier, 10)]
}
