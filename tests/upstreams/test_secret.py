"""One secret: what a source may say, and how long what it said holds."""

from __future__ import annotations

import asyncio
import json
import math
from datetime import UTC, datetime
from typing import Any
from unittest import mock

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.config_upstream import SecretConfig
from gateway.upstreams.secrets import credentials, secret
from gateway.upstreams.secrets.credentials import Secret
from gateway.upstreams.secrets.secret import Reading, Unusable

_SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_MOMENT = _SCALAR | st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat)
_STATUS = st.fixed_dictionaries({}, optional={"token": _SCALAR, "expirationTimestamp": _MOMENT})
_OBJECT = st.fixed_dictionaries(
    {}, optional={"token": _SCALAR, "expires_at": _MOMENT, "status": _SCALAR | _STATUS, "other": _SCALAR}
)


@given(st.binary(max_size=200) | st.text().map(str.encode) | _OBJECT.map(lambda it: json.dumps(it).encode()))
def test_whatever_a_helper_prints_is_a_secret_or_unusable(raw: bytes) -> None:
    try:
        reading = secret._printed(secret._text(raw))
    except Unusable as why:
        assert len(raw) < 8 or raw.decode(errors="replace") not in str(why), "nothing is quoted"
        return
    assert reading.value.strip() or raw.startswith(b"{")
    assert reading.expires_ns is None or isinstance(reading.expires_ns, int)


class Source:
    """Says what the test tells it to."""

    kind = "command"

    def __init__(self) -> None:
        self.says: Reading | None = None
        self.asked = 0

    async def read(self) -> Reading:
        self.asked += 1
        if self.says is None:
            raise Unusable("told to")
        return self.says


_VALUES = st.sampled_from(["a", "b", "c"])
_LIVES = st.none() | st.floats(1, 20)
_EVENTS = st.lists(
    st.tuples(st.just("says"), _VALUES, _LIVES)
    | st.tuples(st.just("fails"), st.none(), st.none())
    | st.tuples(st.just("waits"), st.floats(0.5, 90), st.none()),
    min_size=4,
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(_EVENTS, st.floats(0, 60))
@example([("says", "a", 5.0), ("fails", None, None), ("waits", 10.0, None)], 60.0)  # its end comes first
@example([("says", "a", 50.0), ("fails", None, None), ("waits", 10.0, None)], 5.0)  # patience does
def test_a_secret_is_used_exactly_as_long_as_it_may_be(events: list[Any], keep_s: float) -> None:
    """Against a model that remembers the last good value, its end, and when reading first failed after it."""

    async def run() -> None:
        now, wall = 1000.0, 5_000.0
        with (
            mock.patch.object(credentials.time, "monotonic", lambda: now),
            mock.patch.object(credentials.time, "time_ns", lambda: int(wall * 1e9)),
            mock.patch.object(credentials.logger, "disabled", True),
        ):
            one = Secret("up", "secret", SecretConfig(command=("x",), refresh_s=20), keep_s, str.encode)
            source = one.source = Source()
            value, ends, failing_since = None, math.inf, math.inf
            generation = 0

            async def asked() -> None:
                """What follows when the source was asked just now."""
                nonlocal value, ends, failing_since, generation
                says = source.says
                if says is None or (says.expires_ns is not None and says.expires_ns <= int(wall * 1e9)):
                    failing_since = min(failing_since, now)
                    return
                generation += says.value != value
                value, failing_since = says.value, math.inf
                ends = math.inf if says.expires_ns is None else now + says.expires_ns / 1e9 - wall

            for what, first, second in events:
                if what == "waits":
                    # In steps of the keeper, which may ask the source at each.
                    for _ in range(int(first / 0.5)):
                        now, wall = now + 0.5, wall + 0.5
                        if now >= ends or now >= failing_since + keep_s:
                            value = None
                        before = source.asked
                        one.tick(now)
                        if one.waiting:
                            await one.read()
                            await asyncio.sleep(0)
                        assert source.asked - before <= 1
                        if source.asked > before:
                            await asked()
                else:
                    source.says = (
                        None
                        if what == "fails"
                        else Reading(first, None if second is None else int((wall + second) * 1e9))
                    )
                    await one.read()
                    await asyncio.sleep(0)
                    await asked()
                if now >= ends or now >= failing_since + keep_s:
                    value = None
                assert one.block == (None if value is None else value.encode()), (now, ends, failing_since)
                assert one.generation == generation
                expected = "unavailable" if value is None else "ok" if failing_since == math.inf else "kept"
                assert one.state == expected

    asyncio.run(run())


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 600), st.booleans())
def test_time_alone_asks_a_source_a_bounded_number_of_times(seconds: int, failing: bool) -> None:
    async def run() -> None:
        now = 0.0
        with mock.patch.object(credentials.time, "monotonic", lambda: now):
            one = Secret("up", "secret", SecretConfig(command=("x",), refresh_s=20), 30, str.encode)
            source = one.source = Source()
            source.says = None if failing else Reading("a")
            await one.read()
            for step in range(seconds):
                now = float(step)
                one.tick(now)
                if one.waiting:
                    await one.read()
                    await asyncio.sleep(0)
            bound = 8 + seconds / credentials.RETRY_MAX_S if failing else 2 + seconds / 20
            assert source.asked <= bound

    asyncio.run(run())
