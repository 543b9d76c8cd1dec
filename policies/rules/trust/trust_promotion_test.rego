package wardgate.rules.trust_promotion_test

import rego.v1

import data.wardgate.rules.trust_promotion

refusals(question) := got if {
	got := count(trust_promotion.deny) with input as question with data.trust.outcomes as {"payments": 500}
}

asked(kind, outcomes) := {
	"domain": "payments",
	"change": {"kind": kind, "from": 1, "to": 2, "outcomes": outcomes},
}

test_too_few_outcomes_are_refused if refusals(asked("promote", 499)) == 1

test_it_says_how_many if {
	some refusal in trust_promotion.deny with input as asked("promote", 1) with data.trust.outcomes as {"payments": 500}
	refusal.code == "more_outcomes_needed"
}

test_enough_outcomes_pass if refusals(asked("promote", 500)) == 0

test_what_is_held_is_kept if refusals(asked("keep", 1)) == 0

test_another_domain_is_not_bound if refusals(object.union(asked("promote", 1), {"domain": "mail"})) == 0
