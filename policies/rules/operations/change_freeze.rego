# METADATA
# title: No changes during a freeze
# description: >-
#   Between 'from' and 'until' of a window in data.freezes.windows, agents in its environments change nothing, unless
#   they carry its label. Times are RFC 3339 with an offset; a window that cannot be read refuses.
# custom:
#   id: operations.change_freeze
#   owner: wardgate
#   severity: high
#   mode: enforce
#   codes: [change_freeze, freeze_unclear]
#   scope: {risks: [reversible, compensable, irreversible]}
package wardgate.rules.change_freeze

import rego.v1

deny contains {
	"code": "change_freeze",
	"message": sprintf("changes are frozen until %s: %s", [window.until, window.reason]),
	"remedy": "wait until then, or ask the operator for the label of the window",
} if {
	some window in data.freezes.windows
	input.environment in window.environments
	not window.label in input.agent.labels
	input.time >= time.parse_rfc3339_ns(window.from)
	input.time < time.parse_rfc3339_ns(window.until)
}

deny contains {
	"code": "freeze_unclear",
	"message": "a freeze in the policy lacks one of environments, from, until, label and reason",
	"remedy": "tell the owner of the policy",
} if {
	some window in data.freezes.windows
	not complete(window)
}

complete(window) if {
	is_array(window.environments)
	every key in ["from", "until", "label", "reason"] {
		is_string(window[key])
	}
}
