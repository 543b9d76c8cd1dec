"""What is repeated in headers can be read back exactly and cannot break out of its line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared import inbound

from gateway.errors import ConfigError
from gateway.upstreams.headers import configured, encode_value, param_headers, param_values


@given(st.text())
def test_the_official_decoder_reads_back_every_value(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return  # lone surrogates are refused at the front
    encoded = encode_value(text)
    assert encoded.isascii() and "\r" not in encoded and "\n" not in encoded
    assert inbound.decode_header_value(encoded) == text


SCHEMA = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "count": {"type": "integer", "x-mcp-header": "Count"},
        "dry": {"type": "boolean", "x-mcp-header": "Dry"},
        "plain": {"type": "string"},
        "nested": {"type": "object", "properties": {"id": {"type": "string", "x-mcp-header": "Nested-Id"}}},
    },
}


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "region": st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]))),
            "count": st.integers(),
            "dry": st.booleans(),
            "nested": st.one_of(st.text(max_size=3), st.fixed_dictionaries({"id": st.just("é\r\n")})),
        },
    )
)
def test_mirrored_arguments_equal_those_of_the_official_client(args: dict[str, Any]) -> None:
    expected = inbound.mcp_param_headers(inbound.x_mcp_header_map(SCHEMA), args)
    found = param_values(param_headers(SCHEMA), args)
    assert {name.lower(): value for name, value in found} == {
        name.lower(): value for name, value in expected.items()
    }


@pytest.mark.parametrize(
    "prop",
    [
        {"type": "string", "x-mcp-header": "a b"},
        {"type": "string", "x-mcp-header": "a\r\nevil: 1"},
        {"type": "string", "x-mcp-header": ""},
        {"type": "string", "x-mcp-header": 7},
        {"type": "number", "x-mcp-header": "N"},
        {"x-mcp-header": "N"},
    ],
)
def test_a_malformed_annotation_voids_all_of_the_schema(prop: dict[str, Any]) -> None:
    schema = {"properties": {"good": {"type": "string", "x-mcp-header": "Good"}, "bad": prop}}
    assert inbound.find_invalid_x_mcp_header(schema) is not None
    assert param_headers(schema) == ()


def test_two_arguments_cannot_share_a_header() -> None:
    both = {"a": {"type": "string", "x-mcp-header": "X"}, "b": {"type": "string", "x-mcp-header": "x"}}
    assert param_headers({"properties": both}) == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("authorization", "Bearer a\r\nx: y"),
        ("a b", "c"),
        ("content-length", "0"),
        ("Transfer-Encoding", "chunked"),
        ("Host", "evil"),
        ("Mcp-Name", "x"),
        ("mcp-param-region", "x"),
        ("x", "é"),
    ],
)
def test_configured_headers_that_would_change_the_message_refuse_to_start(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=r"upstreams\.up"):
        configured({name: value}, "upstreams.up.headers")
