# METADATA
# title: What a monitor of the session forbids is stopped
# description: >-
#   Monitors count and order the calls of a session (policies/monitors, and your own monitors/*.yaml). A call that
#   would violate one is refused, or asked about where the monitor says on_violation escalate. What only warns is
#   for the module sessions.monitors_warn. Without facts of a session the module does nothing.
# custom:
#   id: sessions.monitors
#   owner: wardgate
#   severity: high
#   mode: enforce
#   codes: [monitor_violated]
package wardgate.rules.monitors

import rego.v1

deny contains {
	"code": "monitor_violated",
	"message": message(name, fact),
	"remedy": said(fact, "remedy", "do what the monitor asks for first, or ask a person"),
} if {
	some name, fact in violated

	# A word that is not known is one that was meant to stop the call.
	answer := said(fact, "on_violation", "deny")
	not answer in ["escalate", "warn", "nothing"]
}

deny contains {
	"code": "monitor_violated",
	"message": "what the monitors of this session say cannot be read",
	"remedy": "ask the operator of the gateway",
} if {
	given := input.session.monitors
	not is_object(given)
}

escalate contains {
	"code": "monitor_violated",
	"message": message(name, fact),
	"remedy": said(fact, "remedy", "wait for the approval"),
	"approval": {"chain": said(fact, "chain", "default")},
} if {
	some name, fact in violated
	said(fact, "on_violation", "deny") == "escalate"
}

violated[name] := fact if {
	is_object(input.session.monitors)
	some name, fact in input.session.monitors
	not fine(fact)
}

fine(fact) if {
	is_object(fact)
	fact.violated == false
}

message(name, fact) := sprintf("%s (monitor %s)", [
	said(fact, "message", "what this session has done before rules this call out"),
	name,
])

said(fact, key, otherwise) := fact[key] if {
	is_object(fact)
	is_string(fact[key])
} else := otherwise
