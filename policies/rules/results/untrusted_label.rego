# METADATA
# title: Results of untrusted tools carry a label
# description: What a tool of integrity 'untrusted' returns is labelled, so that later rules and readers know.
# custom:
#   id: results.untrusted_label
#   owner: wardgate
#   severity: low
#   phase: result
#   mode: enforce
#   codes: []
package wardgate.rules.untrusted_label

import rego.v1

obligation contains {"kind": "label", "value": [data.flow.label]} if input.tool.integrity == "untrusted"
