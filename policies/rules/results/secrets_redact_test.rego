package wardgate.tests.secrets_redact

import data.wardgate.rules.secrets_redact
import rego.v1

test_results_are_searched_for_secrets if {
	some duty in secrets_redact.obligation
	duty.kind == "redact"
	count(duty.value.patterns) > 5
	"password" in duty.value.keys
}
