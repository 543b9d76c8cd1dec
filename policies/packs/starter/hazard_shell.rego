# METADATA
# title: No destructive shell commands
# description: >-
#   Stops commands that delete trees, overwrite devices or run what they download, in any argument that by
#   its name holds a command. A net for accidents, not a sandbox: a determined writer can spell things otherwise.
# custom:
#   id: starter.hazard_shell
#   owner: security
#   severity: critical
#   codes: [hazardous_command]
#   scope: {kinds: [tool], arguments: [data.hazards.shell.arguments]}
package wardgate.rules.hazard_shell

import data.wardgate.lib.args.composites
import data.wardgate.lib.args.flat
import rego.v1

deny contains {
	"code": "hazardous_command",
	"message": sprintf("the command looks destructive (%s)", [name]),
	"remedy": "name the exact files, without recursion, and do not pipe downloads into a shell",
} if {
	some command in commands
	some name, pattern in data.hazards.shell.patterns
	regex.match(pattern, command)
}

commands contains flat(value) if {
	some name, value in input.call.args
	lower(name) in data.hazards.shell.arguments
}

commands contains flat(value) if {
	some composite in composites
	walk(composite, [path, value])
	name := path[count(path) - 1]
	is_string(name)
	lower(name) in data.hazards.shell.arguments
}
