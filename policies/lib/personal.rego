# Personal data in a text, by its form and where there are check digits by those. Each function gives the texts found.
package wardgate.lib.personal

import rego.v1

# Phone numbers are international (+49 30 123456) or North American ((212) 555-0100): bare digits are too often
# something else.
form := {
	"email": `[A-Za-z0-9._%+-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}\b`,
	"phone": `\+[0-9]{1,3}[ .-]?(?:\([0-9]{1,4}\)[ .-]?)?[0-9]{1,4}(?:[ .-]?[0-9]{2,4}){2,4}\b|\([0-9]{3}\) ?[0-9]{3}-[0-9]{4}\b`,
	"card_number": `\b(?:4[0-9]{3}|5[1-5][0-9]{2}|2[2-7][0-9]{2}|6011|65[0-9]{2})(?:[ .-]?[0-9]{4}){3}\b|\b3[47][0-9]{2}[ .-]?[0-9]{6}[ .-]?[0-9]{5}\b`,
	"iban": `\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b`,
}

# Whether a text may hold a card number, an IBAN or a phone number: one quick search before the others.
numbered(text) if {
	regex.match(`\b[2-6][0-9]{3}[ .-]?[0-9]{4}|[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4}|\+[0-9]{1,3}[ .(-]?[0-9(]|\([0-9]{3}\) ?[0-9]`, text)
}

# Or a mail address besides.
possible(text) if numbered(text)

possible(text) if contains(text, "@")

emails(text) := {found | some found in regex.find_n(form.email, text, -1)}

phones(text) := {found | some found in regex.find_n(form.phone, text, -1)}

# Card numbers whose last digit is right (Luhn).
cards(text) := luhn_checked(regex.find_n(form.card_number, text, -1))

# IBANs of a known length whose check digits are right (remainder 1 modulo 97).
ibans(text) := iban_checked(regex.find_n(form.iban, text, -1))

# Checking costs some 50 µs each. So many that look right are taken as right: a flood must not buy time.
most_checked := 50

luhn_checked(found) := {number | some number in found; luhn(number)} if count(found) <= most_checked

luhn_checked(found) := {number | some number in found} if count(found) > most_checked

iban_checked(found) := {text | some text in found; iban(text)} if count(found) <= most_checked

iban_checked(found) := {text | some text in found} if count(found) > most_checked

plain := {"0": 0, "1": 1, "2": 2, "3": 3, "4": 4, "5": 5, "6": 6, "7": 7, "8": 8, "9": 9}

doubled := {"0": 0, "1": 2, "2": 4, "3": 6, "4": 8, "5": 1, "6": 3, "7": 5, "8": 7, "9": 9}

luhn(number) if {
	digits := split(strings.replace_n({" ": "", "-": "", ".": ""}, number), "")
	odd := [plain[digit] | some at, digit in digits; (count(digits) - at) % 2 == 1]
	even := [doubled[digit] | some at, digit in digits; (count(digits) - at) % 2 == 0]
	(sum(odd) + sum(even)) % 10 == 0
}

iban(text) if {
	compact := replace(text, " ", "")
	length := iban_length[substring(compact, 0, 2)]
	count(compact) >= length
	turned := concat("", [substring(compact, 4, length - 4), substring(compact, 0, 4)])
	digits := split(strings.replace_n(letters, turned), "")
	values := [value | some at, digit in digits; value := plain[digit] * weights[(count(digits) - 1) - at]]
	sum(values) % 97 == 1
}

letters := {
	"A": "10", "B": "11", "C": "12", "D": "13", "E": "14", "F": "15", "G": "16", "H": "17", "I": "18", "J": "19",
	"K": "20", "L": "21", "M": "22", "N": "23", "O": "24", "P": "25", "Q": "26", "R": "27", "S": "28", "T": "29",
	"U": "30", "V": "31", "W": "32", "X": "33", "Y": "34", "Z": "35",
}

# Powers of ten modulo 97, so that no number grows beyond what both engines count exactly.
weights := [
	1, 10, 3, 30, 9, 90, 27, 76, 81, 34, 49, 5, 50, 15, 53, 45,
	62, 38, 89, 17, 73, 51, 25, 56, 75, 71, 31, 19, 93, 57, 85, 74,
	61, 28, 86, 84, 64, 58, 95, 77, 91, 37, 79, 14, 43, 42, 32, 29,
	96, 87, 94, 67, 88, 7, 70, 21, 16, 63, 48, 92, 47, 82, 44, 52,
]

# Lengths by country (ISO 13616 registry).
iban_length := {
	"AD": 24, "AE": 23, "AL": 28, "AT": 20, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "CH": 21, "CR": 22,
	"CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FR": 27, "GB": 22,
	"GE": 22, "GI": 23, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IS": 26, "IT": 27, "KW": 30, "KZ": 20,
	"LB": 28, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MT": 31, "NL": 18,
	"NO": 15, "PK": 24, "PL": 28, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24,
	"SM": 27, "TN": 24, "TR": 26, "UA": 29,
}
