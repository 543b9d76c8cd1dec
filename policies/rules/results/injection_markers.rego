# METADATA
# title: Results that give orders carry a label
# description: >-
#   A result that holds typical marks of prompt injection (orders to forget instructions, forged turns of a conversation,
#   invisible text) is labelled untrusted and injection, whoever it came from. It is not withheld: the marks are a
#   hint, and prose about injection has them too.
# custom:
#   id: results.injection_markers
#   owner: wardgate
#   severity: medium
#   phase: result
#   mode: enforce
#   codes: []
#   scope: {kinds: [tool, resource, prompt]}
package wardgate.rules.injection_markers

import data.wardgate.lib.patterns.matched
import rego.v1

obligation contains {"kind": "label", "value": [data.flow.label, data.injection.label]} if {
	count(matched(data.injection, input.result.text)) > 0
}
