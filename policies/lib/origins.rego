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

# The tool takes a destination, and none is given: nothing goes anywhere.
vouched if input.call.addressed == false

# The user or the mandate names every one of them: what a tool lists is not enough to choose one of many.
named_by_user if {
	count(input.call.provenance) > 0
	every _, origin in input.call.provenance {
		origin.source in ["user", "mandate"]
	}
}

# The session has been shown what an outsider can have written.
tainted if input.session.integrity == "untrusted"

# What is asked about: values that an outsider can have written, and values that nobody is known to have given. ``asking``
# is data.provenance.
doubts(asking) := from_strangers(asking) | from_nowhere(asking)

from_strangers(asking) := {doubt |
	some pointer, origin in input.call.provenance
	origin.source == "untrusted"
	origin.kind in asking.untrusted
	doubt := {
		"code": "value_from_untrusted",
		"message": sprintf("%s (%s) was taken from content that an outsider can have written", [pointer, origin.kind]),
		"remedy": "use a value that the user gave or a trusted tool lists, or wait for the approval",
		"approval": {"chain": asking.chain},
	}
}

from_nowhere(asking) := {doubt |
	some pointer, origin in input.call.provenance
	origin.source == "none"
	origin.kind in asking.unknown
	tainted
	doubt := {
		"code": "value_from_nowhere",
		"message": sprintf("%s (%s) stands in nothing that the user said or a trusted tool lists", [pointer, origin.kind]),
		"remedy": "use a value that the user gave or a trusted tool lists, or wait for the approval",
		"approval": {"chain": asking.chain},
	}
}
