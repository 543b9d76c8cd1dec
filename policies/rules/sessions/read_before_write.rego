# METADATA
# title: What nobody has read is not changed for good
# description: >-
#   Asks before something is changed that cannot be undone when the id of the thing stands in no output of the session, no
#   request and no mandate: the agent has made it up, or has it from where the gateway does not look. Reads
#   input.call.provenance; where it is not there, the module does nothing.
# custom:
#   id: sessions.read_before_write
#   owner: wardgate
#   severity: medium
#   mode: enforce
#   codes: [object_never_seen]
#   scope: {kinds: [tool], risks: [compensable, irreversible]}
package wardgate.rules.read_before_write

import rego.v1

escalate contains {
	"code": "object_never_seen",
	"message": sprintf("%s names something that this session has not read", [pointer]),
	"remedy": "read the thing first, then call again with its id as it is written there",
	"approval": {"chain": data.read_before_write.chain},
} if {
	some pointer, origin in input.call.provenance
	origin.kind == "id"
	origin.source == "none"
}
