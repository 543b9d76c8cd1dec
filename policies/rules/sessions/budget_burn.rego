# METADATA
# title: A budget is not used up without a person
# description: >-
#   Asks when a call would take a budget of data.budgets.ask_above_percent above that share, and when a budget with a
#   window would be used up within data.budgets.burn_minutes at the rate of the last five. A budget without a window is
#   made for its task and may be used as fast as the task goes. Calls that charge nothing to a budget pass.
# custom:
#   id: sessions.budget_burn
#   owner: wardgate
#   severity: medium
#   mode: enforce
#   codes: [budget_nearly_used, budget_burning]
package wardgate.rules.budget_burn

import rego.v1

escalate contains {
	"code": "budget_nearly_used",
	"message": sprintf("with this call more than %v %% of the budget of %s of this %s are used", [percent, metric, scope]),
	"remedy": "wait for the approval, or finish with what needs no more of it",
	"approval": {"chain": data.budgets.chain},
} if {
	some metric, percent in data.budgets.ask_above_percent
	charged(metric)
	some scope, budget in input.budget
	fact := budget[metric]

	# The share is rounded up to a whole one: a budget of one is for one.
	((fact.used + fact.reserved) - 1) * 100 >= fact.limit * percent
}

escalate contains {
	"code": "budget_burning",
	"message": sprintf("at this rate the budget of %s of this %s is used up within %v minutes", [metric, scope, minutes]),
	"remedy": "wait for the approval, or go more slowly",
	"approval": {"chain": data.budgets.chain},
} if {
	some metric, minutes in data.budgets.burn_minutes
	charged(metric)
	some scope, budget in input.budget
	fact := budget[metric]
	fact.window_s
	fact.left * 5 < fact.burn_5m * minutes
}

charged(metric) if metric == "calls"

charged("writes") if input.tool.risk != "read"

charged("irreversible") if not input.tool.risk in ["read", "reversible"]

charged("bytes_out") if "egress" in input.tool.effects

charged("cost_micro_usd") if input.tool.risk != "read"

charged("cost_micro_usd") if input.tool.cost_micro_usd > 0
