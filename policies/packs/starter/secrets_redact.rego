# METADATA
# title: Secrets are taken out of results
# description: Keys, tokens and passwords in a tool's result are replaced before the agent sees them.
# custom:
#   id: starter.secrets_redact
#   owner: security
#   severity: high
#   phase: result
#   codes: []
package wardgate.rules.secrets_redact

import rego.v1

obligation contains {"kind": "redact", "value": {"patterns": data.secrets.patterns, "keys": data.secrets.keys}}
