package wardgate.lib.addresses_test

import data.wardgate.lib.addresses
import rego.v1

test_hosts_of_urls if {
	addresses.destinations == {"api.example.com"} with input.call.text as "url\nhttps://API.example.com:8443/a?b=c"
}

test_the_user_part_of_a_url_is_not_its_host if {
	"evil.example" in addresses.destinations with input.call.text as "https://bank.example@evil.example/x"
}

test_domains_of_mail_addresses if {
	addresses.destinations == {"corp.example"} with input.call.text as "to\nAnn <ann@Corp.example>\nsee you"
}

test_text_without_an_address_has_no_destination if {
	addresses.destinations == set() with input.call.text as "see you"
}

test_a_subdomain_is_within_its_domain if addresses.within("mail.corp.example", ["corp.example"])

test_a_longer_name_is_not_within if not addresses.within("evilcorp.example", ["corp.example"])
