# METADATA
# title: Data goes only to known destinations
# description: >-
#   Every host and mail domain in the arguments of a tool that sends data out must be listed in data.egress.domains, or the
#   call is refused; with data.egress.unlisted 'ask' a person decides, unless the user, the mandate or a trusted field names
#   every destination. A tool that sends and names no destination goes where its operator pointed it.
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
import data.wardgate.lib.origins.vouched
import rego.v1

deny contains {
	"code": "destination_not_listed",
	"message": sprintf("%s is not a listed destination", [host]),
	"remedy": "send to a listed domain, or ask the owner of the policy to list this one",
} if {
	data.egress.unlisted != "ask"
	some host in destinations
	not within(host, data.egress.domains)
}

escalate contains {
	"code": "destination_not_listed",
	"message": sprintf("%s is not a listed destination, and nobody whom the gateway trusts names it", [host]),
	"remedy": "send to a listed domain or to somebody the user named, or wait for the approval",
	"approval": {"chain": data.egress.chain},
} if {
	data.egress.unlisted == "ask"
	some host in destinations
	not within(host, data.egress.domains)
	not vouched
}
