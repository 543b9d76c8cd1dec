package wardgate.tests.egress_destinations

import data.wardgate.rules.egress_destinations
import rego.v1

codes(members) := {member.code | some member in members}

refused(text) := got if {
	got := codes(egress_destinations.deny) with input.call.text as text with data.egress.domains as ["example.com"]
}

test_mail_to_a_listed_domain_passes if refused("to\nann@mail.example.com") == set()

test_mail_to_another_domain_is_refused if refused("ann@example.com, eve@evil.example") == {"destination_not_listed"}

test_a_url_with_a_user_part_goes_where_it_goes if refused("https://example.com@evil.example/") == {"destination_not_listed"}
