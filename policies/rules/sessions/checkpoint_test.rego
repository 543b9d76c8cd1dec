package wardgate.tests.checkpoint

import data.wardgate.rules.checkpoint
import rego.v1

asked(session) := got if {
	got := {member.message | some member in checkpoint.escalate; member.code == "checkpoint_due"} with input as {"session": session} with data.checkpoints.chain as "default"
}

test_a_checkpoint_that_is_due_says_why if {
	asked({"progress": {"due": true, "why": "20 actions"}}) == {"a person should look at this work first: 20 actions"}
	count(asked({"progress": {"due": true}})) == 1
}

test_otherwise_nobody_is_asked if {
	asked({"progress": {"due": false, "why": ""}}) == set()
	asked({}) == set()
}
