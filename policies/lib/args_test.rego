package wardgate.lib.args_test

import data.wardgate.lib.args
import rego.v1

test_flat_arguments_have_no_composites if {
	args.composites == set() with input.call.args as {"x": "a", "n": 1, "t": true, "e": null}
}

test_a_list_of_words_is_one_text if args.flat(["rm", "-rf", ["/"]]) == "rm -rf /"

test_arguments_are_found_by_name_at_any_depth_and_in_any_case if {
	given := {"SQL": "a", "steps": [{"sql": "b"}, {"x": {"Sql": ["c", "d"]}}], "note": "e"}
	args.each_named(["sql"]) == {"a", "b", "c", "d"} with input.call.args as given
	args.named(["sql"]) == {"a", "b", "c d"} with input.call.args as given
}
