# METADATA
# title: Data goes only to known destinations
# description: >-
#   Every host and mail domain in the arguments of a tool that sends data out must be listed in
#   data.egress.domains. A tool that sends and names no destination goes where its operator pointed it.
# custom:
#   id: egress.egress_destinations
#   owner: wardgate
#   severity: critical
#   mode: enforce
#   codes: [destination_not_listed]
#   scope: {effects: [egress]}
package wardgate.rules.egress_destinations

import data.wardgate.lib.addresses.destinations
import data.wardgate.lib.addresses.within
import rego.v1

deny contains {
	"code": "destination_not_listed",
	"message": sprintf("%s is not a listed destination", [host]),
	"remedy": "send to a listed domain, or ask the owner of the policy to list this one",
} if {
	some host in destinations
	not within(host, data.egress.domains)
}
