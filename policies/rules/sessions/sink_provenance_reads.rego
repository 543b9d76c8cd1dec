# METADATA
# title: Values from strangers do not say where reading sends something
# description: >-
#   The same as sessions.sink_provenance for tools that only read and send something out with it, such as fetching a URL:
#   what stands in an address leaves with it.
# custom:
#   id: sessions.sink_provenance_reads
#   owner: wardgate
#   severity: critical
#   mode: enforce
#   codes: [value_from_untrusted, value_from_nowhere]
#   scope: {kinds: [tool], risks: [read], effects: [egress]}
package wardgate.rules.sink_provenance_reads

import data.wardgate.lib.origins.doubts
import rego.v1

escalate contains doubt if some doubt in doubts(data.provenance)
