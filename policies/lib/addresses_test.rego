package wardgate.lib.addresses_test

import data.wardgate.lib.addresses
import rego.v1

test_hosts_of_urls if {
	addresses.destinations == {"api.example.com"} with input.call.args as {"url": "https://API.example.com:8443/a?b=c"}
}

test_the_user_part_of_a_url_is_not_its_host if {
	"evil.example" in addresses.destinations with input.call.args as {"u": "https://bank.example@evil.example/x"}
}

test_domains_of_mail_addresses_at_any_depth if {
	got := addresses.destinations with input.call.args as {"to": [{"mail": "Ann <ann@Corp.example>"}]}
	got == {"corp.example"}
}

test_a_subdomain_is_within_its_domain if addresses.within("mail.corp.example", ["corp.example"])

test_a_longer_name_is_not_within if not addresses.within("evilcorp.example", ["corp.example"])
