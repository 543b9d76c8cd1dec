# METADATA
# title: What cannot be undone needs a person
# description: >-
#   Irreversible and compensable tools are held for approval. A tool nobody described counts as irreversible.
#   Effects listed in data.irreversible.decided_elsewhere are left to more precise rules, and so is a tool that a mandate
#   names where data.irreversible.mandate_suffices says so.
# custom:
#   id: access.irreversible
#   owner: wardgate
#   severity: high
#   mode: enforce
#   codes: [irreversible_needs_person, delegated]
#   scope: {risks: [compensable, irreversible]}
package wardgate.rules.irreversible

import rego.v1

escalate contains {
	"code": "irreversible_needs_person",
	"message": sprintf("%s cannot be undone, so a person decides", [input.tool.target]),
	"remedy": "use a tool that only reads or whose change can be undone, or wait for the approval",
	"approval": {"chain": "default"},
} if {
	not decided_elsewhere
	not delegated
}

delegated if {
	data.irreversible.mandate_suffices
	some pattern in input.mandate.tools
	glob.match(pattern, ["/"], input.tool.target)
}

decided_elsewhere if {
	some effect in input.tool.effects
	effect in data.irreversible.decided_elsewhere
}

allow contains {"code": "delegated", "message": "the mandate names this tool"} if delegated
