"""What two readers could read differently is refused, and nothing else is."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import strictjson
from gateway.errors import Refused

finite = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | finite | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)


@given(values, st.sampled_from([None, 1]), st.booleans())
def test_every_plain_document_is_read_however_it_is_spelled(value, indent, ascii_only):
    raw = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    assert strictjson.parse(raw) == orjson.loads(raw)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b'{"a":1,"a":2}', "duplicate_key"),
        (b'{"x":{"a":1,"a":1}}', "duplicate_key"),
        (b'{"a":1,"\\u0061":2}', "duplicate_key"),
        (b'[{"a":{},"b":[{"c":1,"c":2}]}]', "duplicate_key"),
        (b'{"a":18446744073709551616}', "number_out_of_range"),
        (b'{"a":-9223372036854775809}', "number_out_of_range"),
        (b'{"a":' + b"9" * 5000 + b"}", "number_out_of_range"),
        (b'{"a":NaN}', "malformed_json"),
        (b'{"a":Infinity}', "malformed_json"),
        (b'{"a":1e999}', "number_out_of_range"),
        (b'{"a":"\\ud800"}', "malformed_json"),
        (b'{"a":"\xff"}', "malformed_json"),
        (b"\xef\xbb\xbf{}", "malformed_json"),
        (b"", "malformed_json"),
        (b'{"a":1}{"b":2}', "malformed_json"),
        (b"[" * 65 + b"]" * 65, "too_deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "too_deep"),
        (b"[" * 300 + b"]" * 300, "too_deep"),
        (b"[" * 100_000 + b"]" * 100_000, "too_deep"),
    ],
)
def test_what_two_readers_could_read_differently_is_refused(raw, code):
    with pytest.raises(Refused) as refused:
        strictjson.parse(raw)
    assert refused.value.code == code


@given(st.data())
def test_a_duplicate_key_is_found_wherever_it_hides(data):
    key = data.draw(text)
    inner = data.draw(values)
    twice = f"{{{json.dumps(key)}:1,{json.dumps(key)}:{json.dumps(inner)}}}"
    for raw in (twice, f"[1,{twice}]", f'{{"outer":{{"x":[{twice}]}}}}'):
        with pytest.raises(Refused, match="duplicate_key"):
            strictjson.parse(raw.encode())


def test_many_brackets_at_shallow_depth_are_fine():
    raw = orjson.dumps({"rows": [[i] for i in range(1000)]})
    assert strictjson.parse(raw)["rows"][999] == [999]


@given(st.dictionaries(text, values, max_size=6))
def test_canonical_bytes_do_not_depend_on_the_order_of_keys(value):
    shuffled = dict(reversed(value.items()))
    assert strictjson.canonical(value) == strictjson.canonical(shuffled)
    assert orjson.loads(strictjson.canonical(value)) == value


@given(st.dictionaries(text, st.integers(0, 9), min_size=1, max_size=8))
def test_keys_are_in_utf16_order_as_rfc_8785_asks(value):
    keys = list(orjson.loads(strictjson.canonical(value)))
    assert keys == sorted(value, key=lambda key: key.encode("utf-16-be"))


def test_the_order_of_astral_and_private_use_keys_is_that_of_utf16():
    # U+E000 sorts before U+1F600 by code point and after it by UTF-16 code unit.
    assert strictjson.canonical({"\ue000": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\ue000":1}'.encode()


@given(values)
def test_the_bound_on_values_is_never_below_their_number(value):
    def plainly(item):
        children = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        return 1 + sum(plainly(child) for child in children)

    assert strictjson.count(value) == plainly(value)
    assert strictjson.nodes(orjson.dumps(value)) >= plainly(value)
