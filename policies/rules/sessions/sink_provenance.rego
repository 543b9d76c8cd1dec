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
#   scope: {kinds: [tool], risks: [reversible, compensable, irreversible]}
package wardgate.rules.sink_provenance

import data.wardgate.lib.origins.doubts
import rego.v1

escalate contains doubt if some doubt in doubts(data.provenance)
