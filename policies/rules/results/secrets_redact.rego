# METADATA
# title: Secrets are taken out of results
# description: Keys, tokens and passwords in a tool's result are replaced before the agent sees them.
# custom:
#   id: results.secrets_redact
#   owner: wardgate
#   severity: high
#   mode: enforce
#   phase: result
#   codes: []
package wardgate.rules.secrets_redact

import rego.v1

obligation contains {"kind": "redact", "value": {"patterns": data.secrets.patterns, "keys": data.secrets.keys}}
