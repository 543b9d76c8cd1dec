# METADATA
# title: Mail to people we know needs nobody
# description: Mail whose every destination is a listed domain may be sent; others are refused by the strict pack.
# custom:
#   id: demo.mail_to_known
#   owner: security
#   severity: medium
#   codes: [mail_to_known]
#   scope: {tools: [office/send_mail]}
package wardgate.rules.mail_to_known

import data.wardgate.lib.addresses
import rego.v1

allow contains {"code": "mail_to_known", "message": "every destination is listed"} if {
	count(addresses.destinations) > 0
	every host in addresses.destinations {
		addresses.within(host, data.egress.domains)
	}
}
