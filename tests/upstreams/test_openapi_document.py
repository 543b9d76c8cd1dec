"""A document is read within bounds, or refused with a sentence that says where it is wrong."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.config_upstream import UpstreamConfig
from gateway.upstreams.openapi import document as openapi_document
from gateway.upstreams.openapi.document import BadDocument, parse, read
from gateway.upstreams.openapi.peer import OpenApiPeer

SMALL = {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": {}}


def written(folder: Path, document: Any) -> Path:
    path = folder / "api.json"
    path.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
    return path


# What JSON and YAML agree on; YAML has no way to write some characters, and ``yaml.dump`` no big integers.
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.text() | st.floats(-1e9, 1e9, width=32),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_yaml_and_json_of_the_same_document_are_the_same(value: Any) -> None:
    document = {"x": value}
    assert parse(json.dumps(document).encode()) == document
    assert parse(b"---\n" + yaml.safe_dump(document).encode()) == document
    assert parse(b"---\n" + yaml.safe_dump(document, default_flow_style=True).encode()) == document


def test_words_of_yaml_1_1_are_text_and_keys_are_text() -> None:
    said = b"on: no\n200: {ok: yes}\nsince: 2024-01-01\ntime: 12:30:45\nversion: '1.0'\nnothing: ~\n"
    assert parse(said) == {
        "on": "no", "200": {"ok": "yes"}, "since": "2024-01-01", "time": "12:30:45", "version": "1.0",
        "nothing": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a: &x [1]\nb: *x\n", "line 1: YAML anchors"),
        (b"a:\n  <<: {b: 1}\n", "line 2: YAML merge keys"),
        (b"a: 1\nb: 2\na: 3\n", "line 3: the key 'a' is there twice"),
        (b'{"a": 1, "a": 2}', "Duplicate JSON key"),
        (b"a: !!python/object/apply:os.system ['id']\n", "line 1: the YAML tag"),
        (b"? [1, 2]\n: x\n", "a key must be text"),
        (b"a: 1\n---\nb: 2\n", "more than one YAML document"),
        (b"a: [", "not valid YAML: line"),
        (b"a: \x01", "not valid YAML"),
        (b"\xff\xfe\xfd", "YAML"),
        (b"[" * 500, "nested deeper"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "nested too deeply"),
        (b"a: 1e999", "not finite"),
    ],
)
def test_what_two_readers_could_read_differently_is_refused(text: bytes, said: str) -> None:
    with pytest.raises(BadDocument) as caught:
        parse(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"swagger": "2.0", "info": {}, "paths": {}}, "2.0 (Swagger) is not read here; convert it"),
        ({**SMALL, "openapi": "3.2.0"}, "3.0.x or 3.1.x"),
        ({**SMALL, "openapi": 3.0}, "3.0.x or 3.1.x"),
        ({**SMALL, "openapi": "3.0"}, "3.0.x or 3.1.x"),
        ({**SMALL, "paths": []}, "'paths' is no mapping"),
        ([], "no mapping at the top"),
        (b"", "no mapping at the top"),
        (b"just text", "no mapping at the top"),
    ],
)
def test_another_kind_of_document_is_refused_with_what_to_do(
    tmp_path: Path, document: Any, said: str
) -> None:
    with pytest.raises(BadDocument) as caught:
        read(written(tmp_path, document))
    assert said in str(caught.value) and "api.json" in str(caught.value)


def test_a_document_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    path = written(tmp_path, {**SMALL, "x-filler": "x" * openapi_document.MAX_BYTES})
    with pytest.raises(BadDocument) as caught:
        read(path)
    assert "larger than 10 MB" in str(caught.value)


def test_a_document_of_very_many_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openapi_document, "MAX_NODES", 1000)
    for text in (b"a: [" + b"1," * 2000 + b"1]", b'{"a": [' + b"1," * 2000 + b"1]}"):
        with pytest.raises(BadDocument) as caught:
            parse(text)
        assert "more than 1000 values" in str(caught.value)


def test_reading_ends_when_it_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openapi_document, "MAX_S", -1.0)
    with pytest.raises(BadDocument) as caught:
        parse(b"a: [" + b"1," * 10_000 + b"1]")
    assert "to read" in str(caught.value)


def large(bytes_: int) -> bytes:
    """A YAML document of about that size, all of it operations."""
    head = "openapi: 3.0.3\ninfo: {title: large, version: '1'}\npaths:\n"
    one = (
        "  /things/{n}/{{id}}:\n    get:\n      operationId: get{n}\n      description: {text}\n"
        "      parameters:\n      - {{name: id, in: path, required: true, schema: {{type: string}}}}\n"
        "      responses: {{'200': {{description: ok}}}}\n"
    )
    count = 4000
    text = "x" * (bytes_ // count - len(one))
    return (head + "".join(one.format(n=n, text=text) for n in range(count))).encode()


async def test_ten_megabytes_are_read_while_the_event_loop_goes_on(tmp_path: Path) -> None:
    document = large(openapi_document.MAX_BYTES - 200_000)
    assert 9_000_000 < len(document) < openapi_document.MAX_BYTES
    path = tmp_path / "api.yaml"
    path.write_bytes(document)
    peer = OpenApiPeer("up", UpstreamConfig(url="http://127.0.0.1:9", openapi=path), result_bytes=1 << 20)
    loop = asyncio.get_running_loop()
    reading = asyncio.create_task(peer.info(loop.time() + 60))
    longest, began = 0.0, time.monotonic()
    while not reading.done():
        before = time.monotonic()
        await asyncio.sleep(0.001)
        longest = max(longest, time.monotonic() - before)
    took = time.monotonic() - began
    assert (await reading).title == "large"
    assert peer.status().problems == ()
    print(f"read in {took:.2f} s, the loop waited at most {longest * 1000:.0f} ms")
    assert took < 30
    assert longest < 1.0, "the event loop was held"
    await peer.close()
