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
	"remedy": object.get(fact, "remedy", "do what the monitor asks for first, or ask a person"),
} if {
	some name, fact in input.session.monitors
	object.get(fact, "violated", true) != false

	# A word that is not known is one that was meant to stop the call.
	not object.get(fact, "on_violation", "deny") in ["escalate", "warn", "nothing"]
}

escalate contains {
	"code": "monitor_violated",
	"message": message(name, fact),
	"remedy": object.get(fact, "remedy", "wait for the approval"),
	"approval": {"chain": object.get(fact, "chain", "default")},
} if {
	some name, fact in input.session.monitors
	object.get(fact, "violated", true) != false
	fact.on_violation == "escalate"
}

message(name, fact) := sprintf("%s (monitor %s)", [
	object.get(fact, "message", "what this session has done before rules this call out"),
	name,
])
