package wardgate.lib.patterns_test

import data.wardgate.lib.patterns.matched
import rego.v1

words := {"patterns": {"a": "a+", "b": "b"}, "any_pattern": "(?:a+)|(?:b)"}

test_each_pattern_that_matches_is_named if matched(words, "xaay") == {"a"}

test_a_text_without_any_has_no_names if not matched(words, "xyz")

test_without_a_union_all_are_searched if matched({"patterns": {"a": "a+", "b": "b"}}, "ab") == {"a", "b"}
