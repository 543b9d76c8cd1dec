# METADATA
# title: Values from strangers do not say where things go
# description: >-
#   In a session that has read content from outside, a recipient, account, address, host, statement or the like needs a
#   person unless the user, the mandate or a field that no outsider can fill names it: when it stands in untrusted content
#   (data.provenance.untrusted lists the kinds), and when it stands nowhere (data.provenance.unknown). Reads
#   input.call.provenance; what is paraphrased is not seen, which the label of the session is for.
# custom:
#   id: sessions.sink_provenance
#   owner: wardgate
#   severity: critical
#   mode: enforce
#   codes: [value_from_untrusted, value_from_nowhere]
#   scope: {kinds: [tool]}
package wardgate.rules.sink_provenance

import data.wardgate.lib.origins.tainted
import rego.v1

escalate contains {
	"code": "value_from_untrusted",
	"message": sprintf("%s (%s) was taken from content that an outsider can have written", [pointer, origin.kind]),
	"remedy": "use a value that the user gave or a trusted tool lists, or wait for the approval",
	"approval": {"chain": data.provenance.chain},
} if {
	some pointer, origin in input.call.provenance
	origin.source == "untrusted"
	origin.kind in data.provenance.untrusted
}

escalate contains {
	"code": "value_from_nowhere",
	"message": sprintf("%s (%s) stands in nothing that the user said or a trusted tool lists", [pointer, origin.kind]),
	"remedy": "use a value that the user gave or a trusted tool lists, or wait for the approval",
	"approval": {"chain": data.provenance.chain},
} if {
	some pointer, origin in input.call.provenance
	origin.source == "none"
	origin.kind in data.provenance.unknown
	tainted
}
