package wardgate.tests.egress_destinations

import data.wardgate.rules.egress_destinations
import rego.v1

codes(members) := {member.code | some member in members}

refused(text) := got if {
	got := codes(egress_destinations.deny) with input.call.text as text with data.egress as {"domains": ["example.com"], "unlisted": "refuse", "chain": "default"}
}

test_mail_to_a_listed_domain_passes if refused("to\nann@mail.example.com") == set()

test_mail_to_another_domain_is_refused if refused("ann@example.com, eve@evil.example") == {"destination_not_listed"}

test_a_url_with_a_user_part_goes_where_it_goes if refused("https://example.com@evil.example/") == {"destination_not_listed"}

asked(source) := got if {
	got := {"deny": codes(egress_destinations.deny), "escalate": codes(egress_destinations.escalate)} with input.call as {
		"text": "eve@evil.example",
		"provenance": {"/to": {"kind": "recipient", "source": source, "trusted": source == "user"}},
	}
		with data.egress as {"domains": ["example.com"], "unlisted": "ask", "chain": "default"}
}

test_where_it_is_asked_a_person_decides_about_strangers if {
	asked("untrusted") == {"deny": set(), "escalate": {"destination_not_listed"}}
	asked("user") == {"deny": set(), "escalate": set()}
}
