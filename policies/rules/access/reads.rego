# METADATA
# title: Reads are allowed
# description: A tool that changes nothing may be used; what its result may show is decided afterwards.
# custom:
#   id: access.reads
#   owner: wardgate
#   severity: low
#   mode: enforce
#   codes: [read_allowed]
#   scope: {risks: [read]}
package wardgate.rules.reads

import rego.v1

allow contains {"code": "read_allowed", "message": "reading is allowed"} if {
	input.tool.risk == "read"
}
