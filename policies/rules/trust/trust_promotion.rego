# METADATA
# title: Promotions in sensitive domains take more evidence
# description: >-
#   A promotion in a domain of data.trust.outcomes takes at least so many verified outcomes, whatever its bound.
# custom:
#   id: trust.trust_promotion
#   owner: wardgate
#   severity: medium
#   mode: enforce
#   codes: [more_outcomes_needed]
#   phase: trust
package wardgate.rules.trust_promotion

import rego.v1

deny contains {
	"code": "more_outcomes_needed",
	"message": sprintf("a promotion in %s takes %v verified outcomes; there are %v", [input.domain, least, outcomes]),
	"remedy": "wait for more verified outcomes",
} if {
	input.change.kind == "promote"
	input.change.to > 1
	least := data.trust.outcomes[input.domain]
	outcomes := input.change.outcomes
	outcomes < least
}
