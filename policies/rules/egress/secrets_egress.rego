# METADATA
# title: No secrets to the outside
# description: A tool that sends data out must not be given what looks like a key, a token or a password.
# custom:
#   id: egress.secrets_egress
#   owner: wardgate
#   severity: critical
#   mode: enforce
#   codes: [secret_in_arguments]
#   scope: {effects: [egress]}
package wardgate.rules.secrets_egress

import data.wardgate.lib.patterns.matched
import rego.v1

deny contains {
	"code": "secret_in_arguments",
	"message": sprintf("the arguments hold what looks like a secret (%s)", [name]),
	"remedy": "send the message without the secret; refer to where it is kept",
} if {
	some name in matched(data.secrets, input.call.text)
}
