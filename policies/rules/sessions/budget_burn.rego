# METADATA
# title: A budget is not used up without a person
# description: >-
#   Asks when a call would take a budget of data.budgets.ask_above_percent above that share, and when a budget with a
#   window would be used up within data.budgets.burn_minutes at the rate of the last five. A budget without a window is
#   made for its task and may be used as fast as the task goes. Reading, and what charges nothing to the budget, pass:
#   the limits themselves hold for all.
# custom:
#   id: sessions.budget_burn
#   owner: wardgate
#   severity: medium
#   mode: enforce
#   codes: [budget_nearly_used, budget_burning]
#   scope: {risks: [reversible, compensable, irreversible]}
package wardgate.rules.budget_burn

import rego.v1

escalate contains {
	"code": "budget_nearly_used",
	"message": sprintf("with this call more than %v %% of the budget of %s of this %s are used", [percent, metric, scope]),
	"remedy": "wait for the approval, or finish with what needs no more of it",
	"approval": {"chain": data.budgets.chain},
} if {
	some scope, budget in input.budget
	some metric, percent in data.budgets.ask_above_percent
	fact := budget[metric]

	# The share is rounded up to a whole one: a budget of one is for one.
	((fact.used + fact.reserved) - 1) * 100 >= fact.limit * percent
	charged(metric)
}

escalate contains {
	"code": "budget_burning",
	"message": sprintf("at this rate the budget of %s of this %s is used up within %v minutes", [metric, scope, minutes]),
	"remedy": "wait for the approval, or go more slowly",
	"approval": {"chain": data.budgets.chain},
} if {
	some scope, budget in input.budget
	some metric, minutes in data.budgets.burn_minutes
	fact := budget[metric]
	fact.window_s
	fact.left * 5 < fact.burn_5m * minutes
	charged(metric)
}

charged(metric) if metric in ["calls", "writes"]

charged("irreversible") if input.tool.risk != "reversible"

charged("bytes_out") if "egress" in input.tool.effects

charged("cost_micro_usd") if "money" in input.tool.effects

charged("cost_micro_usd") if input.tool.cost_micro_usd > 0
