# METADATA
# title: Secrets are taken out of customers
# custom:
#   id: clients.secrets
#   owner: test
#   severity: high
#   phase: result
#   codes: []
#   scope: {tools: [crm/get_customer]}
package wardgate.rules.secrets

import rego.v1

obligation contains {"kind": "redact", "value": {"patterns": data.secrets.patterns, "keys": data.secrets.keys}}
