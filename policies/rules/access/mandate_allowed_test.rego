package wardgate.tests.mandate_allowed

import data.wardgate.rules.mandate_allowed
import rego.v1

codes(members) := {member.code | some member in members}

refused(extra, risk) := got if {
	got := codes(mandate_allowed.deny) with input as object.union(extra, {"tool": {"risk": risk, "target": "git/git_commit"}})
		with data.mandates.required_for as ["irreversible"]
}

mandate(tools, reads, risks) := {"mandate": {"tools": tools, "reads": reads, "risks": risks}}

test_what_the_mandate_names_passes if refused(mandate(["git/*"], "listed", ["reversible"]), "reversible") == set()

test_another_tool_is_refused if {
	refused(mandate(["git/git_log"], "listed", ["reversible"]), "reversible") == {"outside_mandate"}
	refused(mandate([], "listed", ["reversible"]), "reversible") == {"outside_mandate"}
	refused(mandate(["git/*/*"], "listed", ["reversible"]), "reversible") == {"outside_mandate"}
}

test_another_risk_is_refused if refused(mandate(["git/*"], "listed", ["read"]), "reversible") == {"outside_mandate"}

test_reads_are_listed_unless_any_may_be_read if {
	refused(mandate(["bank/*"], "listed", ["read"]), "read") == {"outside_mandate"}
	refused(mandate([], "any", ["read"]), "read") == set()
	refused(mandate([], "any", ["read", "reversible"]), "reversible") == {"outside_mandate"}
	refused(mandate([], "any", ["reversible"]), "read") == {"outside_mandate"}
}

test_a_mandate_that_does_not_say_is_refused if {
	refused({"mandate": {}}, "read") == {"mandate_unclear"}
	refused(mandate("git/*", "any", ["read"]), "read") == {"mandate_unclear"}
	refused(mandate(["git/*"], "some", ["read"]), "read") == {"mandate_unclear"}
	refused({"mandate": {"tools": ["git/*"], "risks": ["read"]}}, "read") == {"mandate_unclear"}
}

test_without_a_mandate_only_the_listed_risks_are_refused if {
	refused({}, "read") == set()
	refused({}, "irreversible") == {"mandate_missing"}
}
