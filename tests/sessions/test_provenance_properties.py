"""What holds for provenance whatever the values: a bounded fold that forgets no taint and gives no trust."""

from __future__ import annotations

import posixpath
import random
import sys
from typing import Any
from urllib.parse import urlsplit

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.sessions.provenance import KINDS, Harvest, Prints, harvest, provenance, sinks
from tests.sessions import bench_provenance
from tests.sessions.bench_provenance import HOSTILE, result

KEY = b"session-1"
LOCALS = ["ann", "bob", "ann.lee", "b", "o'neil", "x+y"]
DOMAINS = ["corp.example", "evil.example", "corp.example.evil.example", "sub.corp.example"]
ADDRESSES = [f"{local}@{domain}" for local in LOCALS for domain in DOMAINS]
VALUES = [
    *ADDRESSES, "DE89370400440532013000", "GB29NWBK60161331926819", "https://corp.example/a/b",
    "https://evil.example/a", "/srv/data/a.txt", "general", "ISS-4711", "Red Bicycle Shop", "SELECT 1 FROM t",
    "12345",
]  # fmt: skip

addresses = st.sampled_from(ADDRESSES)
values = st.sampled_from(VALUES)
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
trees = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=20) | values,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | values, inner, max_size=4)
    ),
    max_leaves=12,
)


@st.composite
def steps(draw: st.DrawFn) -> tuple[str, Any]:
    kind = draw(st.sampled_from(["request", "trust", "untrusted", "trusted", "fields"]))
    if kind == "request":
        return kind, " ".join(draw(st.lists(values | st.text(max_size=8), max_size=4)))
    if kind == "trust":
        return kind, draw(st.lists(values, max_size=3))
    return kind, {"items": draw(st.lists(values, max_size=4)), "note": draw(values | st.text(max_size=12))}


def take(prints: Prints, step: tuple[str, Any], number: int = 0) -> None:
    kind, value = step
    if kind == "request":
        prints.learn_request(value)
    elif kind == "trust":
        prints.trust(value)
    else:
        prints.apply(
            harvest(
                result(value),
                f"tool/{kind}{number}",
                integrity="trusted" if kind == "trusted" else "untrusted",
                trusted_fields=("/items/*",) if kind == "fields" else (),
                key=KEY,
            )
        )


def seen(prints: Prints) -> list[Any]:
    return [prints.trace(value, kind) for value in VALUES for kind in KINDS]


@settings(max_examples=60, deadline=None)
@given(st.lists(steps(), max_size=6), st.lists(steps(), max_size=3))
def test_a_restored_session_knows_what_it_knew_and_goes_on_alike(before, after):
    prints = Prints(KEY)
    for number, step in enumerate(before):
        take(prints, step, number)
    kept = msgspec.json.encode(prints.encode())
    restored = Prints.decode(msgspec.json.decode(kept), KEY)
    assert seen(restored) == seen(prints)
    for number, step in enumerate(after):
        take(prints, step, number)
        take(restored, step, number)
    assert msgspec.json.encode(restored.encode()) == msgspec.json.encode(prints.encode())


@settings(max_examples=60, deadline=None)
@given(st.lists(steps(), max_size=6), st.randoms(use_true_random=False))
def test_the_source_of_a_value_does_not_depend_on_the_order_of_things(given_steps, draw):
    one, other = Prints(KEY), Prints(KEY)
    for step in given_steps:
        take(one, step)
    for step in draw.sample(given_steps, len(given_steps)):
        take(other, step)
    assert [traced.source for traced in seen(one)] == [traced.source for traced in seen(other)]


@settings(max_examples=150, deadline=None)
@given(trees, st.lists(values, max_size=3))
def test_nothing_of_an_untrusted_result_is_ever_trusted(tree, args):
    prints = Prints(KEY)
    prints.apply(harvest(orjson.dumps({"structuredContent": tree}), "web/get", key=KEY, args={"q": args}))
    prints.apply(harvest(result(tree), "web/get", key=KEY, args={"q": args}))
    assert not any(traced.trusted for traced in seen(prints))
    for text in strings(tree):
        for kind in KINDS:
            assert not prints.trace(text, kind).trusted


def strings(tree: Any) -> list[str]:
    if isinstance(tree, str):
        return [tree]
    if isinstance(tree, dict):
        return [text for key, value in tree.items() for text in [key, *strings(value)]]
    return [text for value in tree for text in strings(value)] if isinstance(tree, list) else []


@st.composite
def altered(draw: st.DrawFn) -> tuple[str, str]:
    """An address, and what an attacker makes of it."""
    address = draw(addresses)
    at = draw(st.integers(0, len(address)))
    what = draw(
        st.sampled_from(
            ["insert", "delete", "replace", "prefix", "suffix", "case", "list", "twice", "wrap", "same"]
        )
    )
    mark = draw(st.characters() | st.sampled_from("@.%,;<> \n\u200b\u3002\u043e+-_/\\:"))
    match what:
        case "insert":
            return address, address[:at] + mark + address[at:]
        case "delete":
            return address, address[:at] + address[at + 1 :]
        case "replace":
            return address, address[:at] + mark + address[at + 1 :]
        case "prefix":
            return address, draw(st.text(max_size=4)) + address
        case "suffix":
            return address, address + draw(
                st.text(max_size=4) | st.sampled_from([".evil.example", "@evil.example"])
            )
        case "case":
            return address, address.upper()
        case "list":
            return address, f"{address}{draw(st.sampled_from([', ', ';', ' ', chr(10)]))}{draw(addresses)}"
        case "twice":
            return address, f'"{address}" <{draw(addresses)}>'
        case "wrap":
            return address, f"{draw(st.text(max_size=6))} <{address}>"
    return address, address


@settings(max_examples=400, deadline=None)
@given(st.lists(addresses, min_size=1, max_size=3), altered(), st.booleans())
def test_an_argument_is_trusted_only_when_every_address_in_it_was_named(named, made, by_user):
    """The oracle is deliberately dull: split, take what stands in brackets, compare."""
    address, value = made
    named = [*named, address]
    prints = Prints(KEY)
    if by_user:
        prints.learn_request("Write to " + " and ".join(named) + ", please.")
    else:
        prints.trust(named)
    if prints.trace(value, "recipient").trusted:
        low = {one.lower() for one in named}
        for part in value.strip().replace(";", ",").replace("\n", ",").split(","):
            bare = part.strip()
            if not bare:
                continue
            if "<" in bare:
                assert bare.endswith(">") and bare.count("<") == 1
                bare = bare[bare.index("<") + 1 : -1]
            bare = bare.removeprefix("mailto:")
            assert bare.lower() in low and bare.isascii(), (named, value)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.sampled_from(KINDS), st.text(max_size=80))
def test_any_text_can_be_learned_and_traced(value, kind, request_text):
    prints = Prints(KEY)
    prints.learn_request(request_text)
    prints.trust([value[:30]])
    prints.apply(harvest(result(value), "web/get", key=KEY))
    traced = prints.trace(value, kind)
    assert traced.trusted == (traced.source in ("user", "mandate", "trusted"))
    msgspec.json.encode(prints.encode())


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=200) | trees.map(orjson.dumps),
    st.lists(st.sampled_from(["/a", "/*", "/*/b", "/content/*/text/a", ""])),
)
def test_any_bytes_can_be_harvested(data, patterns):
    for integrity in ("trusted", "untrusted"):
        made = harvest(
            data, "web/get", integrity=integrity, trusted_fields=patterns, untrusted_fields=patterns[:1]
        )
        Prints().apply(made)
        assert msgspec.json.decode(msgspec.json.encode(made), type=Harvest) == made


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.text(max_size=8) | st.sampled_from(["to", "url", "path", "body"]), trees, max_size=5)
)
def test_any_arguments_have_at_most_32_sinks_and_small_facts(args):
    prints = Prints(KEY)
    facts = provenance(prints, args)
    assert len(sinks(args)) <= 32 and len(facts) <= 32
    assert not any(fact["trusted"] for fact in facts.values())


# ------------------------------------------------------------------------------------------------ bounds


def memory(value: Any) -> int:
    """Bytes of an object and what it holds; small integers and interned names are shared and not counted."""
    size = sys.getsizeof(value)
    if type(value).__module__.startswith("gateway."):
        return size + sum(memory(getattr(value, name)) for name in type(value).__slots__)
    if isinstance(value, list | tuple):
        return size + sum(memory(item) for item in value if not isinstance(item, int))
    return size


def noisy(draw: random.Random, count: int) -> str:
    return " ".join(f"{draw.getrandbits(60):x}@{draw.getrandbits(40):x}.example" for _ in range(count))


def test_a_session_stays_within_40_kb_however_long_it_runs():
    draw = random.Random(5)
    prints = Prints(KEY)
    for number in range(400):
        prints.learn_request(noisy(draw, 20) + ' "\\\n\u00e9\U0001f600')
        prints.trust(noisy(draw, 20).split())
        prints.apply(
            harvest(result(noisy(draw, 30)), f"tool/{number}-{'x' * 300}", integrity="trusted", key=KEY)
        )
        prints.apply(
            harvest(result(noisy(draw, 900 if number % 40 == 0 else 12)), f"other/{number}", key=KEY)
        )
        if number % 50 == 0 or number == 399:
            assert memory(prints) <= 40_000
            assert len(msgspec.json.encode(prints.encode())) <= 40_000


def test_a_typical_session_is_a_few_kb():
    prints = Prints(KEY)
    prints.learn_request(
        "Please pay the March invoice of Red Bicycle Shop and tell ann@corp.example about it."
    )
    for number in range(6):
        prints.apply(
            harvest(result({"id": number, "note": noisy(random.Random(number), 6)}), "mail/read", key=KEY)
        )
    assert memory(prints) <= 4_000


def test_what_was_untrusted_once_stays_so():
    draw = random.Random(9)
    prints = Prints(KEY)
    early = [f"eve{number}@early.example" for number in range(50)]
    prints.apply(harvest(result(" ".join(early)), "web/get", key=KEY))
    for number in range(300):
        prints.apply(harvest(result(noisy(draw, 40)), f"tool/{number}", key=KEY))
        assert prints.trace(early[number % 50], "recipient").source == "untrusted"
    restored = Prints.decode(msgspec.json.decode(msgspec.json.encode(prints.encode())), KEY)
    assert all(restored.trace(value, "recipient").source == "untrusted" for value in early)


def test_results_do_not_take_the_room_of_what_the_user_says_later():
    draw = random.Random(11)
    prints = Prints(KEY)
    for _ in range(40):
        prints.apply(harvest(result(noisy(draw, 60)), "people/list", integrity="trusted", key=KEY))
    late = noisy(draw, 1)
    prints.apply(harvest(result(late), "people/list", integrity="trusted", key=KEY))
    assert not prints.trace(late, "recipient").trusted  # full: not trusted, rather than another one forgotten
    assert prints.learn_request(f"Write to {late}")
    assert prints.trace(late, "recipient").source == "user"


def test_a_request_that_does_not_fit_is_cut_between_words_and_says_so():
    prints = Prints(KEY)
    assert not prints.learn_request("word " * 2_000 + "ann@corp.example")
    assert not prints.trace("ann@corp.example", "recipient").trusted
    prints = Prints(KEY)
    assert not prints.learn_request("x " * 3_990 + "ann@corp.example.evil.example and more to make it long")
    assert not prints.trace("ann@corp.example", "recipient").trusted


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_result_is_marked_and_its_harvest_stays_small(name):
    for how in (
        {},
        {"integrity": "trusted", "args": {"q": "eve@evil.example"}},
        {"trusted_fields": ["/*", "/a/*/b"]},
    ):
        made = harvest(HOSTILE[name], "web/get", key=KEY, **how)
        assert len(msgspec.json.encode(made)) <= 12_288
        prints = Prints(KEY)
        prints.apply(made)
        assert memory(prints) <= 40_000
        provenance(
            prints, {"to": "eve@evil.example", "body": HOSTILE[name][:5_000].decode("utf-8", "replace")}
        )


def test_what_was_not_read_to_its_end_makes_every_unknown_value_untrusted():
    prints = Prints(KEY)
    prints.apply(harvest(result("pad " * 80_000 + "eve@evil.example"), "web/get", key=KEY))
    traced = prints.trace("eve@evil.example", "recipient")
    assert (traced.source, traced.match, traced.targets) == ("untrusted", "none", ("web/get",))
    prints.learn_request("Write to ann@corp.example")
    assert prints.trace("ann@corp.example", "recipient").source == "user"


def test_a_small_result_makes_a_small_harvest():
    made = harvest(
        result({"id": 17, "status": "created", "by": "ann@corp.example", "at": "2026-05-01"}), "git/create"
    )
    assert len(msgspec.json.encode(made)) <= 300


@pytest.mark.slow
def test_it_costs_what_was_promised():
    """Four times as much is allowed, for a machine that does other things; hostile results get 0.1 s."""
    taken = bench_provenance.measure()
    assert {name: us for name, us in taken.items() if us > 4 * bench_provenance.LIMITS_US[name]} == {}
    assert {name: us for name, us in bench_provenance.hostile().items() if us > 100_000} == {}


@st.composite
def altered_urls(draw: st.DrawFn) -> str:
    """A URL made of what the user named, what an attacker owns, and what parsers disagree about."""
    hosts = st.sampled_from(["corp.example", "evil.example", "corp.example.evil.example", "sub.corp.example"])
    glue = st.sampled_from(["", *"@\\/#?.; \u3002", ":443", ":80", ":8443", "%40", "%2e"])
    rest = st.sampled_from(
        ["", "/", "/a/b", "/a/b/c", "/a/../b", "/a/b?x=1", "/a/b#x", "/a%2Fb", "//a/b", "/a/b/%2e%2e"]
    )
    scheme = draw(st.sampled_from(["https", "http", "HTTPS", "ftp", "javascript"]))
    return f"{scheme}://{draw(hosts)}{draw(glue)}{draw(hosts | st.just(''))}{draw(glue)}{draw(rest)}"


@settings(max_examples=400, deadline=None)
@given(altered_urls())
def test_a_url_is_trusted_only_on_the_host_and_below_the_place_the_user_named(value):
    prints = Prints(KEY)
    prints.learn_request("Read https://corp.example/a/b for me")
    if prints.trace(value, "url").trusted:
        parts = urlsplit(value)
        assert parts.scheme == "https" and parts.netloc.lower() in (
            "corp.example",
            "corp.example:443",
            "corp.example.",
        )
        assert parts.path in ("", "/", "/a/b", "/a/b/c") and not parts.query and not parts.fragment
        assert value.isascii() and not set(value) & set("\\@%;# ?")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(["srv", "data", "x", "..", ".", "", ".ssh", "$(id)", "a;b", "~", "%2e%2e", "a b"]),
        max_size=6,
    )
)
def test_a_path_is_trusted_only_below_the_folder_the_user_named(parts):
    prints = Prints(KEY)
    prints.learn_request("Tidy up /srv/data/ for me")
    value = "/" + "/".join(parts)
    if prints.trace(value, "path").trusted:
        assert f"{posixpath.normpath(value)}/".replace("//", "/").startswith("/srv/data/")
        assert not set(parts) & {"..", ".ssh", "$(id)", "a;b", "~", "%2e%2e"}
