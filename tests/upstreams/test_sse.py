"""Event streams mean the same however the network cuts them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstreams.mcp.sse import EventReader, EventTooLarge

_texts = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20)
_events = st.lists(st.lists(_texts, min_size=1, max_size=3), max_size=5)


@given(
    events=_events,
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    noise=st.sampled_from(["", ": ping", "event: message", "id: 7", "retry: 10", "unknown"]),
    cuts=st.lists(st.integers(0, 400), max_size=20),
)
def test_cuts_never_change_events(events: list[list[str]], ending: str, noise: str, cuts: list[int]) -> None:
    lines: list[str] = []
    for event in events:
        lines += [noise] if noise else []
        lines += [f"data: {line}" for line in event] + [""]
    raw = "".join(line + ending for line in lines).encode()
    edges = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    reader = EventReader(10_000)
    found = [data for start, end in itertools.pairwise(edges) for data in reader.feed(raw[start:end])]
    assert found == [data for event in events if (data := "\n".join(event).encode())]


def test_the_empty_event_that_opens_a_resumable_stream_is_no_message() -> None:
    stream = b'id: 1\r\nretry: 100\r\ndata: \r\n\r\nid: 2\r\nevent: message\r\ndata: {"id":1}\r\n\r\n'
    assert EventReader(100).feed(stream) == [b'{"id":1}']


def test_a_byte_order_mark_is_no_part_of_the_first_field() -> None:
    assert EventReader(100).feed(b"\xef\xbb\xbfdata: 1\n\n") == [b"1"]


def test_an_event_without_its_blank_line_is_not_given_out() -> None:
    assert EventReader(100).feed(b"data: 1\ndata: 2\n") == []


@pytest.mark.parametrize("chunk", [b"data: " + b"x" * 50, b"data: x\n", b": comment without end"])
def test_an_event_is_bounded_whatever_it_is_made_of(chunk: bytes) -> None:
    reader = EventReader(100)
    with pytest.raises(EventTooLarge):
        for _ in range(100):
            reader.feed(chunk)


def test_comments_and_events_that_were_given_out_do_not_count() -> None:
    reader = EventReader(100)
    for _ in range(100):
        assert reader.feed(b": keep-alive\n\ndata: 0123456789\n\n") == [b"0123456789"]
