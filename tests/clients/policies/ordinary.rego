# METADATA
# title: Reads and what can be undone are allowed
# custom:
#   id: clients.ordinary
#   owner: test
#   severity: low
#   codes: [ordinary_work]
#   scope: {risks: [read, reversible]}
package wardgate.rules.ordinary

import rego.v1

allow contains {"code": "ordinary_work", "message": "reads and reversible writes are allowed"}
