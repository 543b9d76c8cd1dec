# METADATA
# title: Changes that cannot be undone belong into working hours
# description: >-
#   Outside the days and hours of data.working_hours, in its time zone, what cannot be undone in one of its environments
#   needs a person: somebody should be there when it goes wrong.
# custom:
#   id: operations.working_hours
#   owner: wardgate
#   severity: medium
#   mode: enforce
#   codes: [outside_working_hours]
#   scope: {risks: [compensable, irreversible]}
package wardgate.rules.working_hours

import rego.v1

escalate contains {
	"code": "outside_working_hours",
	"message": sprintf("it is outside working hours (%s)", [data.working_hours.zone]),
	"remedy": "wait for working hours, or for the approval",
	"approval": {"chain": data.working_hours.chain},
} if {
	input.environment in data.working_hours.environments
	not within
}

within if {
	time.weekday([input.time, data.working_hours.zone]) in data.working_hours.days
	hour := time.clock([input.time, data.working_hours.zone])[0]
	hour >= data.working_hours.from_hour
	hour < data.working_hours.until_hour
}
