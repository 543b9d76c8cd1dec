# METADATA
# title: What strangers wrote does not delete anything
# description: >-
#   In a session that has read content from outside, deleting needs a person unless the user or the mandate names what is
#   deleted: that a tool lists a thing does not say that it should go.
# custom:
#   id: sessions.tainted_deletes
#   owner: wardgate
#   severity: high
#   mode: enforce
#   codes: [delete_after_untrusted]
#   scope: {effects: [delete]}
package wardgate.rules.tainted_deletes

import data.wardgate.lib.origins.named_by_user
import data.wardgate.lib.origins.tainted
import rego.v1

escalate contains {
	"code": "delete_after_untrusted",
	"message": "this session has read content from outside, and the user has not named what is to be deleted",
	"remedy": "wait for the approval",
	"approval": {"chain": data.provenance.chain},
} if {
	tainted
	not named_by_user
}
