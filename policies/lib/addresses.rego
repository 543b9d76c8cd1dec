# Where a call would send something: hosts of URLs and domains of mail addresses.
package wardgate.lib.addresses

import rego.v1

# Hosts and domains named in the arguments, in lower case. The user part of a URL is skipped:
# https://bank.example@evil.example/ goes to evil.example.
destinations contains lower(found[1]) if {
	contains(input.call.text, "://")
	some found in regex.find_all_string_submatch_n(`(?i)[a-z][a-z0-9+.-]*://(?:[^/?#\s\\]*@)?(\[[0-9a-f:.]+\]|[^/:?#\s\\@]+)`, input.call.text, -1)
}

destinations contains lower(found[1]) if {
	contains(input.call.text, "@")
	some found in regex.find_all_string_submatch_n(`[^\s@<>"]+@([^\s@<>",;/]+)`, input.call.text, -1)
}

# Whether a host is one of the allowed domains or below one.
within(host, domains) if {
	some domain in domains
	host == domain
}

within(host, domains) if {
	some domain in domains
	endswith(host, concat("", [".", domain]))
}
