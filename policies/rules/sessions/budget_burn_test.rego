package wardgate.tests.budget_burn

import data.wardgate.rules.budget_burn
import rego.v1

asked(risk, scope, metric, fact) := charging(["money"], risk, scope, metric, fact)

charging(effects, risk, scope, metric, fact) := got if {
	got := {member.code | some member in budget_burn.escalate} with input as {
		"tool": {"risk": risk, "effects": effects, "cost_micro_usd": 0},
		"budget": {scope: {metric: object.union({"used": 0, "reserved": 0, "left": 100, "limit": 100, "burn_5m": 0}, fact)}},
	}
		with data.budgets as {"chain": "default", "ask_above_percent": {"cost_micro_usd": 80, "irreversible": 80}, "burn_minutes": {"cost_micro_usd": 10}}
}

test_below_the_share_nobody_is_asked if {
	asked("reversible", "agent", "cost_micro_usd", {"used": 70, "reserved": 10}) == set()
}

test_above_the_share_a_person_is_asked if {
	asked("reversible", "agent", "cost_micro_usd", {"used": 71, "reserved": 10}) == {"budget_nearly_used"}
	asked("irreversible", "tree", "irreversible", {"used": 8, "reserved": 1, "limit": 10}) == {"budget_nearly_used"}
}

test_a_budget_of_one_is_for_one if {
	asked("irreversible", "session", "irreversible", {"used": 0, "reserved": 1, "limit": 1}) == set()
	asked("irreversible", "session", "irreversible", {"used": 1, "reserved": 1, "limit": 2}) == set()
}

test_a_call_that_charges_nothing_passes if {
	charging([], "reversible", "agent", "cost_micro_usd", {"used": 99}) == set()
	asked("reversible", "agent", "irreversible", {"used": 99}) == set()
}

test_a_metric_that_is_not_listed_is_left_alone if asked("irreversible", "agent", "writes", {"used": 99}) == set()

test_a_budget_that_would_soon_be_used_up_is_asked_about if {
	asked("reversible", "tenant", "cost_micro_usd", {"window_s": 3600, "left": 60, "burn_5m": 31}) == {"budget_burning"}
	asked("reversible", "tenant", "cost_micro_usd", {"window_s": 3600, "left": 60, "burn_5m": 30}) == set()
	asked("compensable", "tenant", "cost_micro_usd", {"left": 60, "burn_5m": 40}) == set()
}

test_without_budgets_nobody_is_asked if count(budget_burn.escalate) == 0 with input as {"tool": {"risk": "irreversible"}}
