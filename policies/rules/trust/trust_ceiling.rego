# METADATA
# title: Trust has a ceiling
# description: >-
#   An agent never holds a higher tier than data.trust.ceilings gives its domain, one of its labels or its environment.
#   Asked before a promotion is signed and again whenever something changes, so a lower ceiling takes tiers back.
# custom:
#   id: trust.trust_ceiling
#   owner: wardgate
#   severity: high
#   mode: enforce
#   codes: [tier_above_ceiling]
#   phase: trust
package wardgate.rules.trust_ceiling

import rego.v1

deny contains {
	"code": "tier_above_ceiling",
	"message": sprintf("T%v is above the ceiling T%v of %s", [input.change.to, ceiling.tier, ceiling.of]),
	"remedy": "raise the ceiling in data.trust.ceilings, or leave the agent where it is",
} if {
	some ceiling in ceilings
	input.change.to > ceiling.tier
}

ceilings contains {"of": input.domain, "tier": data.trust.ceilings.domains[input.domain]}

ceilings contains {"of": input.environment, "tier": data.trust.ceilings.environments[input.environment]}

ceilings contains {"of": label, "tier": data.trust.ceilings.labels[label]} if some label in input.agent.labels
