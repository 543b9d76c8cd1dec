package wardgate.tests.mandate_arguments

import data.wardgate.rules.mandate_arguments
import rego.v1

refused(bounds, args) := {member.message | some member in denied({"/a": bounds}, args); member.code == "mandate_argument"}

denied(pointers, args) := got if {
	got := mandate_arguments.deny with input as {
		"tool": {"target": "bank/pay"},
		"call": {"args": args},
		"mandate": {"arguments": {"bank/*": pointers, "git/*": {"/a": {"forbidden": true}}}},
	}
}

words(bounds, value) := {word |
	some message in refused(bounds, {"a": value})
	word := trim_suffix(trim_prefix(message, "/a is not within the mandate ("), ")")
}

test_numbers_stay_within_bounds if {
	words({"min": 1, "max": 100}, 100) == set()
	words({"min": 1, "max": 100}, 100.5) == {"max"}
	words({"min": 1, "max": 100}, 0) == {"min"}
	words({"min": 1, "max": 100}, "5") == {"min", "max"}
	words({"max": 100}, [1, 500]) == {"max"}
}

test_only_listed_values_pass if {
	words({"one_of": ["a", 1]}, "a") == set()
	words({"one_of": ["a", 1]}, "b") == {"one_of"}
	words({"one_of": ["a", 1]}, true) == {"one_of"}
	words({"one_of": ["a", 1]}, ["a", "b"]) == {"one_of"}
}

test_a_pattern_is_about_the_whole_value if {
	words({"pattern": "DE[0-9]+"}, "DE12") == set()
	words({"pattern": "DE[0-9]+"}, "xDE12") == {"pattern"}
	words({"pattern": "a|b"}, "bc") == {"pattern"}
	words({"pattern": "DE[0-9]+"}, "DE12\n") == {"pattern"}
	words({"pattern": "1"}, 1) == {"pattern"}
}

test_texts_are_no_longer_than_allowed if {
	words({"max_length": 2}, "éé") == set()
	words({"max_length": 2}, "ééé") == {"max_length"}
}

test_what_is_forbidden_or_required if {
	words({"forbidden": true}, false) == set()
	words({"forbidden": true}, 0) == {"forbidden"}
	words({"required": true}, false) == set()
	words({"required": true}, null) == {"required"}
	refused({"required": true}, {}) == {"/a is not within the mandate (required)"}
	refused({"forbidden": true, "max": 5}, {}) == set()
}

test_a_bound_nobody_knows_is_broken if {
	words({"maximum": 5}, 1) == {"maximum"}
}

test_pointers_reach_into_objects_and_lists if {
	count(denied({"/a/0/b~1c": {"max": 5}}, {"a": [{"b/c": 9}]})) == 1
	count(denied({"/a/0/b~1c": {"max": 5}}, {"a": {"0": {"b/c": 9}}})) == 1
	count(denied({"/a/00/b~1c": {"max": 5}}, {"a": [{"b/c": 9}]})) == 0
	count(denied({"/a/b/c/d": {"forbidden": true}}, {"a": {"b": {"c": {"d": 1}}}})) == 1
	count(denied({"/a/1": {"required": true}}, {"a": [1]})) == 1
}

test_without_a_mandate_nothing_is_refused if {
	count(mandate_arguments.deny) == 0 with input as {"tool": {"target": "a/b"}, "call": {"args": {"a": 1}}}
}
