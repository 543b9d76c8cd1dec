from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.gateway import Counting, Wardgate, counting


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Counting]:
    """A counting upstream of this test alone."""
    with counting(tmp_path) as running:
        yield running


@pytest.fixture
def gateway(tmp_path: Path, server: Counting) -> Iterator[Callable[..., Wardgate]]:
    """Makes gateways in front of the counting upstream; whatever runs at the end is killed."""
    made: list[Wardgate] = []

    def make(upstream: dict[str, Any] | None = None, **sections: Any) -> Wardgate:
        folder = tmp_path / f"gateway-{len(made)}"
        wardgate = Wardgate(folder, {"counting": {"url": server.url, **(upstream or {})}}, **sections)
        made.append(wardgate)
        return wardgate

    yield make
    for wardgate in made:
        wardgate.close()
