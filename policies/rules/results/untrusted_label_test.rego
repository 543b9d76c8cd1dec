package wardgate.tests.untrusted_label

import data.wardgate.rules.untrusted_label
import rego.v1

test_untrusted_results_are_labelled if {
	untrusted_label.obligation == {{"kind": "label", "value": ["untrusted"]}} with input.tool.integrity as "untrusted"
}

test_trusted_results_are_not if untrusted_label.obligation == set() with input.tool.integrity as "trusted"
