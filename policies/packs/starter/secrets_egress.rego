# METADATA
# title: No secrets to the outside
# description: A tool that sends data out must not be given what looks like a key, a token or a password.
# custom:
#   id: starter.secrets_egress
#   owner: security
#   severity: critical
#   codes: [secret_in_arguments]
#   scope: {effects: [egress]}
package wardgate.rules.secrets_egress

import data.wardgate.lib.args.joined
import rego.v1

deny contains {
	"code": "secret_in_arguments",
	"message": sprintf("the arguments hold what looks like a secret (%s)", [name]),
	"remedy": "send the message without the secret; refer to where it is kept",
} if {
	some name, pattern in data.secrets.patterns
	regex.match(pattern, joined)
}
