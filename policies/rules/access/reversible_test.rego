package wardgate.tests.reversible

import data.wardgate.rules.reversible
import rego.v1

test_reversible_writes_are_allowed if {
	{member.code | some member in reversible.allow} == {"reversible_allowed"} with input.tool as {"risk": "reversible"}
}

test_other_risks_are_not_its_business if reversible.allow == set() with input.tool as {"risk": "irreversible"}
