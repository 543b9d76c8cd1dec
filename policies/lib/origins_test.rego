package wardgate.tests.origins

import data.wardgate.lib.origins
import rego.v1

origin(source) := {"kind": "recipient", "source": source, "trusted": source in ["user", "mandate", "trusted"]}

call(sources) := {"call": {"provenance": {pointer: origin(source) | some pointer, source in sources}}}

test_all_must_be_vouched_for if {
	origins.vouched with input as call({"/to": "user", "/cc": "trusted"})
	not origins.vouched with input as call({"/to": "user", "/cc": "untrusted"})
	not origins.vouched with input as call({"/to": "none"})
}

test_nothing_vouches_for_nothing if {
	not origins.vouched with input as call({})
	not origins.vouched with input as {}
	not origins.named_by_user with input as call({})
}

test_a_listed_value_is_not_named_by_the_user if {
	origins.named_by_user with input as call({"/id": "user", "/to": "mandate"})
	not origins.named_by_user with input as call({"/id": "trusted"})
}

test_what_goes_nowhere_needs_nobody_to_vouch if {
	origins.vouched with input as {"call": {"provenance": {}, "addressed": false}}
	not origins.vouched with input as {"call": {"provenance": {}, "addressed": true}}
}
