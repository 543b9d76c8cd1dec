# METADATA
# title: A person looks at long work from time to time
# description: >-
#   Changes wait for a person when the gateway says that a checkpoint is due: the horizon of the mandate is reached, no
#   milestone has been verified for too long, or too much risk has added up. Reading goes on.
# custom:
#   id: sessions.checkpoint
#   owner: wardgate
#   severity: medium
#   mode: enforce
#   codes: [checkpoint_due]
#   scope: {risks: [reversible, compensable, irreversible]}
package wardgate.rules.checkpoint

import rego.v1

escalate contains {
	"code": "checkpoint_due",
	"message": sprintf("a person should look at this work first: %v", [why]),
	"remedy": "show what has been reached, and wait for the approval",
	"approval": {"chain": data.checkpoints.chain},
} if {
	input.session.progress.due
	why := object.get(input.session.progress, "why", "a checkpoint is due")
}
