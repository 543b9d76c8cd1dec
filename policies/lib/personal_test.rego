package wardgate.lib.personal_test

import data.wardgate.lib.personal
import rego.v1

test_a_card_number_is_known_by_its_last_digit if {
	personal.cards("card 4111 1111 1111 1111, or 378282246310005.") == {"4111 1111 1111 1111", "378282246310005"}
	personal.cards("order 4111111111111112 of 2024-01-02 10:00") == set()
}

test_an_iban_is_known_by_its_check_digits if {
	personal.ibans("to DE89 3704 0044 0532 0130 00 PLEASE") == {"DE89 3704 0044 0532 0130 00"}
	personal.ibans("GB29NWBK60161331926819") == {"GB29NWBK60161331926819"}
	personal.ibans("DE89370400440532013001 and AB12CDEF12345678") == set()
}

test_words_after_an_iban_do_not_hide_it if count(personal.ibans("BE68 5390 0754 7034 PAID")) == 1

test_mail_addresses_are_found_once_each if {
	personal.emails("ann@corp.example, Ann <ann@corp.example>; bob@mail.corp.example!") == {
		"ann@corp.example",
		"bob@mail.corp.example",
	}
}

test_phone_numbers_have_a_country_or_brackets if {
	count(personal.phones("+49 30 1234567, +1-212-555-0100 and (212) 555-0100")) == 3
	personal.phones("build 20260102.4, port 5432, 1234567890") == set()
}

test_what_is_found_is_possible if {
	every text in ["4111111111111111", "DE89 3704 0044 0532 0130 00", "a@b.example", "+49 30 1234567", "(212) 555-0100", "3782 822463 10005"] {
		personal.possible(text)
	}
}

test_too_many_to_check_count_as_found if {
	many := concat(" ", [sprintf("4111 1111 1111 %d%d12", [a, b]) | some a in [1, 2, 3, 4, 5, 6, 7, 8]; some b in [1, 2, 3, 4, 5, 6, 7]])
	count(personal.cards(many)) > 50
}
