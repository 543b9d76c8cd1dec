# METADATA
# title: What came from strangers does not steer what goes out
# description: >-
#   In a session that has read untrusted content, sending data out needs a person; when the session has read
#   confidential content too, it is refused. Reads input.session.labels: where the gateway does not keep
#   labels of sessions, the list is not there and this module does nothing.
# custom:
#   id: egress.untrusted_flow
#   owner: wardgate
#   severity: critical
#   mode: enforce
#   codes: [untrusted_content_needs_person, untrusted_and_confidential]
#   scope: {effects: [egress]}
package wardgate.rules.untrusted_flow

import rego.v1

escalate contains {
	"code": "untrusted_content_needs_person",
	"message": "this session has read content from outside, which may have told the agent to send this",
	"remedy": "wait for the approval, or do it in a session that has not read such content",
	"approval": {"chain": data.flow.chain},
} if {
	untrusted
	not confidential
}

deny contains {
	"code": "untrusted_and_confidential",
	"message": "this session has read content from outside and confidential data: nothing leaves it",
	"remedy": "send from a session that has read only one of them",
} if {
	untrusted
	confidential
}

untrusted if {
	some label in input.session.labels
	label in data.flow.untrusted
}

confidential if {
	some label in input.session.labels
	label in data.flow.confidential
}
