package wardgate.lib.args_test

import data.wardgate.lib.args
import rego.v1

test_strings_are_found_at_any_depth if {
	args.strings == {"a", "b", "x", "y", "z"} with input.call.args as {"x": "a", "y": [{"z": "b"}, 3]}
}

test_named_arguments_are_found_in_lists_and_whatever_their_case if {
	got := args.named({"command"}) with input.call.args as {"Command": ["rm", "-rf"], "other": "x"}
	got == {"rm", "-rf"}
}
