package wardgate.tests.hazard_sql

import data.wardgate.rules.hazard_sql
import rego.v1

refused(text) if {
	got := hazard_sql.deny with input.call.args as {"sql": text}
	{member.code | some member in got} == {"hazardous_sql"}
}

test_destroying_and_escaping_are_denied if {
	every text in [
		"select 1; DROP\tTABLE users", "TRUNCATE users", "drop/**/table users", "alter table a drop column b",
		"copy (select 1) to program 'id'", "select pg_sleep(10)", "GRANT ALL ON a TO public",
	] {
		refused(text)
	}
}

test_a_change_of_every_row_is_denied if {
	every text in ["delete from a", "update a set b = 1", "delete from a where 1=1", "update a set b = 1 where true", "delete from a -- where id = 1"] {
		refused(text)
	}
}

test_a_where_in_one_statement_does_not_bound_another if refused("delete from a; select * from b where c = 1")

test_bounded_changes_and_reads_pass if {
	every text in ["delete from a where id = 3", "update a set b = 1 where id in (1, 2)", "select truncate(1.5, 0) from a", "select * from dropped_tables", "insert into a values (1)"] {
		hazard_sql.deny == set() with input.call.args as {"query": text}
	}
}

test_other_arguments_are_prose if hazard_sql.deny == set() with input.call.args as {"note": "drop table users"}
