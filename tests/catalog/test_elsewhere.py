"""Tools that run elsewhere: the operator's words are all there is to know of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.catalog import names
from gateway.catalog.catalog import ToolCatalog
from gateway.config_upstream import UpstreamConfig
from gateway.errors import Refused

CONFIG = UpstreamConfig.model_validate({
    "elsewhere": True,
    "tools": {"Bash": {"risk": "irreversible"}, "Read": {"risk": "read"}, "mcp__*": {"risk": "reversible"},
              "mcp__git__*": {"risk": "read"}},
    "routes": [{"method": "GET", "path": "/x/{id}", "tool": "look"}],
})  # fmt: skip


def catalog() -> ToolCatalog:
    return ToolCatalog({"laptop": CONFIG, "near": UpstreamConfig(url="http://127.0.0.1:1/mcp")})


@pytest.mark.parametrize(
    ("name", "risk"),
    [
        ("Read", "read"),
        ("mcp__a__b", "reversible"),
        ("mcp__git__log", "read"),
        ("Unheard", "irreversible"),
        ("bash", "irreversible"),
        ("Read ", None),
        ("Re\u200bad", None),
        ("", None),
        ("x" * 257, None),
    ],
)
def test_an_exact_name_beats_the_longest_glob_and_silence_is_irreversible(name, risk):
    if risk is None:
        with pytest.raises(Refused) as refused:
            catalog().resolve("tool", "laptop", name)
        assert refused.value.code == "unknown_tool"
    else:
        found = catalog().resolve("tool", "laptop", name)
        assert found.manifest.risk == risk and found.elsewhere and found.target == f"laptop/{name}"


@pytest.mark.parametrize("kind", ["prompt", "resource", "completion"])
def test_there_are_tools_and_nothing_else(kind):
    with pytest.raises(Refused):
        catalog().resolve(kind, "laptop", "Bash")


def test_the_same_name_is_the_same_tool():
    tools = catalog()
    assert tools.resolve("tool", "laptop", "New") is tools.resolve("tool", "laptop", "New")


def test_names_that_were_never_seen_do_not_fill_the_memory():
    tools = catalog()
    for number in range(5000):
        tools.resolve("tool", "laptop", f"n{number}")
    assert len(tools._elsewhere["laptop"]._met) <= 4096


def test_they_are_in_the_list_of_their_upstream_and_not_among_those_that_can_be_called():
    tools = catalog()
    assert [tool.name for tool in tools.tools("tool", "laptop")] == ["Bash", "Read", "look"]
    assert tools.tools("tool") == () and tools.tools("prompt", "laptop") == ()
    assert tools.listing == ("near",) and len(tools.elsewhere) == 3


@given(st.text(max_size=40))
def test_whatever_resolves_is_safe_to_show(name):
    try:
        found = catalog().resolve("tool", "laptop", name)
    except Refused:
        return
    assert not names.fault(found.name)


@pytest.mark.parametrize(
    "section",
    [
        {"elsewhere": True, "url": "http://x/mcp"},
        {"elsewhere": True, "command": ["x"]},
        {"url": "http://x/mcp", "routes": [{"method": "GET", "path": "/", "tool": "t"}]},
        {},
    ],
)
def test_an_upstream_is_one_thing(section):
    with pytest.raises(ValidationError):
        UpstreamConfig.model_validate(section)


@pytest.mark.parametrize(
    "path",
    [
        "x",
        "/a?b",
        "/a#b",
        "/a b",
        "/{a}{b}",
        "/x{a}",
        "/{a}/{a}",
        "/{}",
        "/{1}",
        "/..",
        "/./a",
        "/%2e",
        "/a\\b",
    ],
)
def test_a_route_that_could_not_be_matched_is_refused_at_start(path):
    with pytest.raises(ValidationError):
        UpstreamConfig.model_validate({
            "elsewhere": True, "routes": [{"method": "GET", "path": path, "tool": "t"}],
        })  # fmt: skip
