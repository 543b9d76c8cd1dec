# Where the values in the arguments come from that say where something goes or what is done: input.call.provenance.
package wardgate.lib.origins

import rego.v1

# There are such values, and the user, the mandate or a trusted field of an output names every one of them.
vouched if {
	count(input.call.provenance) > 0
	every _, origin in input.call.provenance {
		origin.trusted
	}
}

# The user or the mandate names every one of them: what a tool lists is not enough to choose one of many.
named_by_user if {
	count(input.call.provenance) > 0
	every _, origin in input.call.provenance {
		origin.source in ["user", "mandate"]
	}
}

# The session has been shown what an outsider can have written.
tainted if input.session.integrity == "untrusted"
