# METADATA
# title: What a monitor warns of is told to the agent
# description: >-
#   A call that would violate a monitor with on_violation warn passes, with a note. The module is in mode warn for
#   every tool, whatever mode its pack gives it.
# custom:
#   id: sessions.monitors_warn
#   owner: wardgate
#   severity: low
#   mode: enforce
#   modes: [{mode: warn}]
#   codes: [monitor_warns]
package wardgate.rules.monitors_warn

import rego.v1

deny contains {
	"code": "monitor_warns",
	"message": sprintf("%s (monitor %s)", [
		object.get(fact, "message", "what this session has done before speaks against this call"),
		name,
	]),
	"remedy": object.get(fact, "remedy", "look at what the monitor asks for"),
} if {
	some name, fact in input.session.monitors
	object.get(fact, "violated", true) != false
	fact.on_violation == "warn"
}
