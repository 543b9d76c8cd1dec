"""The embedded engine and a real OPA decide the same, over the whole shipped library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.policy import packs
from tests.policy.parity.compare import Compared, generated
from tests.policy.parity.engines import Pair, pairs
from tests.policy.parity.inputs import EDGES, GOLDEN, stored
from tests.requires import requires

pytestmark = [requires("opa"), pytest.mark.slow]  # each pack is handed to OPA, which takes half a minute


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Pair]]:
    with pairs(tmp_path_factory.mktemp("opa")) as made:
        yield made


def test_every_pack_is_compared_and_by_two_different_engines(both: list[Pair]) -> None:
    assert tuple(pair.name for pair in both) == packs()
    embedded, other = both[0].engines
    assert embedded.startswith("regorus ") and other.startswith("opa 1.")


@pytest.mark.parametrize("path", [GOLDEN, EDGES], ids=lambda path: path.stem)
def test_stored_inputs_are_decided_the_same(both: list[Pair], path: Path) -> None:
    compared = Compared()
    for asked in stored(path):
        compared.ask(both, asked)
    assert compared.differences == []
    assert compared.inputs >= (300 if path == GOLDEN else 50)


def test_generated_inputs_are_decided_the_same(both: list[Pair]) -> None:
    compared = Compared()
    generated(both, 300, compared)
    assert compared.differences == []
    assert compared.inputs >= 300 and len(compared.codes) > 5


def test_a_difference_would_be_seen(both: list[Pair], tmp_path: Path) -> None:
    """The comparison itself can fail: OPA is given another limit than the embedded engine has."""
    import msgspec

    from gateway.policy import EmbeddedPolicy

    pair = next(pair for pair in both if pair.name == "strict")
    data = {**pair.bundle.data, "payments": {**pair.bundle.data["payments"], "unattended_micro_usd": 1}}
    honest, pair._embedded = pair._embedded, EmbeddedPolicy(msgspec.structs.replace(pair.bundle, data=data))
    try:
        at_limit = next(asked for asked in stored(EDGES) if asked.about == "an amount at the limit")
        _, differences = pair.compare(at_limit)
    finally:
        pair._embedded = honest
    assert {item.field for item in differences} >= {"verdict", "findings"}
