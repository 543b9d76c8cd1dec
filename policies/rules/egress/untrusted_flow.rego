# METADATA
# title: What came from strangers does not steer what goes out
# description: >-
#   In a session that has read untrusted content, sending data out needs a person, unless the user, the mandate or a trusted
#   field names every destination, or the call chooses none; when the session has read confidential content too, it is
#   refused, or asked about where data.flow.confidential_leaves says so.
# custom:
#   id: egress.untrusted_flow
#   owner: wardgate
#   severity: critical
#   mode: enforce
#   codes: [untrusted_content_needs_person, untrusted_and_confidential]
#   scope: {effects: [egress]}
package wardgate.rules.untrusted_flow

import data.wardgate.lib.origins.vouched
import rego.v1

escalate contains {
	"code": "untrusted_content_needs_person",
	"message": "this session has read content from outside, which may have told the agent to send this",
	"remedy": "wait for the approval, or do it in a session that has not read such content",
	"approval": {"chain": data.flow.chain},
} if {
	untrusted
	not confidential
	not vouched
	not fixed
}

escalate contains {
	"code": "untrusted_and_confidential",
	"message": "this session has read content from outside and confidential data, and may have been told to send it out",
	"remedy": "wait for the approval, or send to somebody the user named",
	"approval": {"chain": data.flow.chain},
} if {
	untrusted
	confidential
	data.flow.confidential_leaves == "ask"
	not vouched
}

deny contains {
	"code": "untrusted_and_confidential",
	"message": "this session has read content from outside and confidential data: nothing leaves it",
	"remedy": "send from a session that has read only one of them",
} if {
	untrusted
	confidential
	data.flow.confidential_leaves != "ask"
	not vouched
}

# The destination is none of the agent's choosing.
fixed if count(input.call.provenance) == 0

untrusted if {
	some label in input.session.labels
	label in data.flow.untrusted
}

confidential if {
	some label in input.session.labels
	label in data.flow.confidential
}
