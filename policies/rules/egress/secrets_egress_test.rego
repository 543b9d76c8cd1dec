package wardgate.tests.secrets_egress

import data.wardgate.rules.secrets_egress
import rego.v1

refused(text) if {
	got := secrets_egress.deny with input.call.text as text
	{member.code | some member in got} == {"secret_in_arguments"}
}

test_a_secret_must_not_leave if {
	every text in ["the key is AKIAABCDEFGHIJKLMNOP, thanks", "ghp_abcdefghijklmnopqrstuvwxyz0123456789", "password: hunter2hunter2", "postgres://app:s3cr3tpw@db.example/x", "Authorization: Bearer abcdefghijklmnop"] {
		refused(text)
	}
}

test_plain_mail_may_leave if {
	secrets_egress.deny == set() with input.call.text as "to\na@b.example\nbody\nsee you on Monday"
}
