package wardgate.lib.args_test

import data.wardgate.lib.args
import rego.v1

test_strings_are_found_at_any_depth if {
	args.strings == {"a", "b", "x", "y", "z"} with input.call.args as {"x": "a", "y": [{"z": "b"}, 3]}
}

test_flat_arguments_have_no_composites if {
	args.composites == set() with input.call.args as {"x": "a", "n": 1, "t": true, "e": null}
}

test_a_list_of_words_is_one_text if args.flat(["rm", "-rf", ["/"]]) == "rm -rf /"
