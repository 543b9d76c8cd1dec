# METADATA
# title: Reversible writes are allowed
# description: What can be undone without loss needs nobody's leave.
# custom:
#   id: access.reversible
#   owner: wardgate
#   severity: low
#   mode: enforce
#   codes: [reversible_allowed]
#   scope: {risks: [reversible]}
package wardgate.rules.reversible

import rego.v1

allow contains {"code": "reversible_allowed", "message": "reversible changes are allowed"} if {
	input.tool.risk == "reversible"
}
