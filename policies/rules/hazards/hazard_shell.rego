# METADATA
# title: No destructive shell commands
# description: >-
#   Stops commands that delete trees, overwrite devices, wipe clusters or run what they download, in any argument
#   that by its name holds a command. A net for accidents, not a sandbox: a determined writer can spell things otherwise.
# custom:
#   id: hazards.hazard_shell
#   owner: wardgate
#   severity: critical
#   mode: enforce
#   codes: [hazardous_command]
#   scope: {kinds: [tool], arguments: [data.hazards.shell.arguments]}
package wardgate.rules.hazard_shell

import data.wardgate.lib.args.named
import data.wardgate.lib.patterns.matched
import rego.v1

deny contains {
	"code": "hazardous_command",
	"message": sprintf("the command looks destructive (%s)", [name]),
	"remedy": "name the exact files, without recursion, and do not pipe downloads into a shell",
} if {
	some command in named(data.hazards.shell.arguments)
	some name in matched(data.hazards.shell, command)
}
