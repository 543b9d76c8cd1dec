from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.e2e.gateway import Counting, Wardgate, counting
from tests.surfaces.http.support import Client, client, configured


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counting]:
    """A tool server that keeps a list of what it did."""
    with counting(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, server: Counting) -> Iterator[Wardgate]:
    """A gateway that tests of one file share; none of them may leave it in another state."""
    wardgate = configured(tmp_path_factory.mktemp("gateway"), server)
    try:
        yield wardgate.start()
    finally:
        wardgate.close()


@pytest.fixture
async def alice(gateway: Wardgate) -> AsyncIterator[Client]:
    async with client(gateway, "alice") as made:
        yield made


@pytest.fixture
async def bob(gateway: Wardgate) -> AsyncIterator[Client]:
    async with client(gateway, "bob") as made:
        yield made
