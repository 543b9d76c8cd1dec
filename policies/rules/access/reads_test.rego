package wardgate.tests.reads

import data.wardgate.rules.reads
import rego.v1

test_reads_are_allowed if {
	{member.code | some member in reads.allow} == {"read_allowed"} with input.tool as {"risk": "read"}
}

test_other_risks_are_not_its_business if reads.allow == set() with input.tool as {"risk": "irreversible"}
