# METADATA
# title: What deletes for good is shown to nobody
# custom:
#   id: clients.shown
#   owner: test
#   severity: low
#   phase: list
#   codes: [hidden]
#   scope: {effects: [delete]}
package wardgate.rules.shown

import rego.v1

deny contains {"code": "hidden", "message": "not shown"}
