# METADATA
# title: No sensitive files
# description: >-
#   Stops paths that lead to keys, passwords and the machine's own configuration, or that climb out with '..', in
#   arguments that hold paths by name. Where files may be at all is for the tool server to bound.
# custom:
#   id: hazards.hazard_paths
#   owner: wardgate
#   severity: high
#   mode: enforce
#   codes: [sensitive_path]
#   scope: {kinds: [tool], arguments: [data.hazards.paths.arguments]}
package wardgate.rules.hazard_paths

import data.wardgate.lib.args.each_named
import data.wardgate.lib.patterns.matched
import rego.v1

deny contains {
	"code": "sensitive_path",
	"message": sprintf("the path leads to what agents do not touch (%s)", [name]),
	"remedy": "use a file of the project, by its path without '..'",
} if {
	some path in each_named(data.hazards.paths.arguments)
	some name in matched(data.hazards.paths, path)
}
