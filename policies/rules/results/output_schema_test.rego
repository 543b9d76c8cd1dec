package wardgate.tests.output_schema

import data.wardgate.rules.output_schema
import rego.v1

codes(fit) := {member.code | some member in members} if {
	members := output_schema.deny with input.result.schema as fit
}

test_what_does_not_fit_is_withheld if codes("violates") == {"result_schema_violated"}

test_what_is_missing_is_withheld if codes("missing") == {"result_schema_violated"}

test_what_fits_is_shown if codes("conforms") == set()

test_a_tool_that_declares_nothing_owes_nothing if codes("none") == set()
