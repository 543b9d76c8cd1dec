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
		said(fact, "message", "what this session has done before speaks against this call"),
		name,
	]),
	"remedy": said(fact, "remedy", "look at what the monitor asks for"),
} if {
	is_object(input.session.monitors)
	some name, fact in input.session.monitors
	is_object(fact)
	fact.on_violation == "warn"
	not fact.violated == false
}

said(fact, key, otherwise) := fact[key] if is_string(fact[key])

else := otherwise
