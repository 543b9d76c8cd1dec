package wardgate.rules.trust_ceiling_test

import rego.v1

import data.wardgate.rules.trust_ceiling

limits := {
	"domains": {"payments": 2},
	"labels": {"intern": 1},
	"environments": {"production": 3},
}

asked(to) := {
	"domain": "payments",
	"environment": "production",
	"agent": {"labels": ["intern"]},
	"change": {"kind": "promote", "from": to - 1, "to": to},
}

refusals(question) := got if {
	got := count(trust_ceiling.deny) with input as question with data.trust.ceilings as limits
}

test_what_is_within_all_ceilings_passes if refusals(asked(1)) == 0

test_each_ceiling_holds if {
	refusals(asked(2)) == 1
	refusals(asked(3)) == 2
	refusals(asked(4)) == 3
}

test_it_says_which if {
	some refusal in trust_ceiling.deny with input as asked(4) with data.trust.ceilings as limits
	refusal.code == "tier_above_ceiling"
}

test_without_ceilings_nothing_is_refused if {
	none := {"domains": {}, "labels": {}, "environments": {}}
	count(trust_ceiling.deny) == 0 with input as asked(4) with data.trust.ceilings as none
}
