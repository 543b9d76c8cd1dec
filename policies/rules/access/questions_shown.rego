# METADATA
# title: Upstreams ask only what somebody allowed them to
# description: >-
#   A server that may ask the client for a completion, a form or its folders can lead a model or a person. Unless a
#   label of the agent has the question in data.questions.allowed, the upstream is not even told that the client
#   could answer it.
# custom:
#   id: access.questions_shown
#   owner: wardgate
#   severity: high
#   mode: enforce
#   phase: list
#   codes: [question_not_listed]
#   scope: {kinds: [sampling, elicitation, roots]}
package wardgate.rules.questions_shown

import rego.v1

deny contains {
	"code": "question_not_listed",
	"message": sprintf("%s is not among the questions this agent's client takes", [input.tool.target]),
} if {
	not listed
}

listed if {
	some label in input.agent.labels
	some pattern in data.questions.allowed[label]
	glob.match(pattern, ["/"], input.tool.target)
}
