"""Which policy decides is one row; every way through promoting and taking back leaves it well defined."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import func, select

from gateway.storage.rollouts import KEPT_DIFFERENCES, Difference, NothingThere, Rollouts, Stored
from gateway.storage.tables import policy_bundles, policy_differences
from tests.storage.at import at


def stored(number: int) -> Stored:
    raw = b"bundle %d" % number
    return Stored(digest=sha256(raw).hexdigest(), raw=raw, origin=f"from {number}", revision=f"r{number}")


class Steps(RuleBasedStateMachine):
    """A model of three variables beside the storage."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile
        from pathlib import Path

        self.folder = tempfile.TemporaryDirectory()
        self.database = at(Path(self.folder.name) / "w.db").open()
        self.store = Rollouts(self.database)
        self.active: str | None = None
        self.candidate: str | None = None
        self.source: str | None = None
        self.before: tuple[str | None] | None = None

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()

    @rule(number=st.integers(0, 5))
    def source_brings(self, number: int) -> None:
        digest = stored(number).digest
        if self.active is None and self.source not in (None, digest):
            self.before = (self.source,)
        self.source = digest
        self.store.source_good(stored(number), step=True)

    @rule(number=st.integers(0, 5), percent=st.integers(1, 100))
    def start(self, number: int, percent: int) -> None:
        self.store.start(stored(number), percent, "olga")
        self.candidate = stored(number).digest

    @rule()
    def promote(self) -> None:
        if self.candidate is None:
            with pytest.raises(NothingThere):
                self.store.promote("olga")
            return
        self.store.promote("olga")
        self.before, self.active, self.candidate = (self.active,), self.candidate, None

    @rule()
    def back(self) -> None:
        if self.before is None:
            with pytest.raises(NothingThere):
                self.store.back("olga")
            return
        self.store.back("olga")
        self.before, self.active = (self.active,), self.before[0]

    @precondition(lambda self: self.active is not None)
    @rule()
    def follow(self) -> None:
        self.store.follow("olga")
        self.before, self.active = (self.active,), None

    @precondition(lambda self: self.candidate is not None)
    @rule()
    def stop(self) -> None:
        self.store.stop()
        self.candidate = None

    @invariant()
    def parts_are_as_modelled_and_their_bundles_are_there(self) -> None:
        parts = self.store.parts()
        digests = {name: part.digest for name, part in parts.items()}
        assert digests.get("active") == self.active
        assert digests.get("candidate") == self.candidate
        assert digests.get("source") == self.source
        assert ("before" in digests) == (self.before is not None)
        named = {digest for digest in digests.values() if digest is not None}
        for digest in named:
            raw = self.store.bundle(digest)
            assert raw is not None and sha256(raw).hexdigest() == digest
        with self.database.reading() as connection:
            kept = connection.execute(select(func.count()).select_from(policy_bundles)).scalar_one()
        assert kept <= 5, "bundles that play no part are forgotten"


TestSteps = Steps.TestCase
TestSteps.settings = __import__("hypothesis").settings(max_examples=25, stateful_step_count=20, deadline=None)


def difference(number: int, tenant: str = "default") -> Difference:
    return Difference(
        at_ns=number, candidate="r2", active="r1", call_id=str(number), tenant=tenant, agent="a",
        target="bank/pay", change="tightened", verdict="allow", code="fine", candidate_verdict="deny",
        candidate_code="limit", rule="x",
    )  # fmt: skip


def test_differences_are_bounded_the_newest_stay_and_belong_to_a_tenant(tmp_path):
    with at(tmp_path / "w.db").open() as database:
        store = Rollouts(database)
        for start in range(0, KEPT_DIFFERENCES + 500, 500):
            store.record([difference(number) for number in range(start, start + 500)])
        store.record([difference(1, "other")])
        with database.reading() as connection:
            kept = connection.execute(select(func.count()).select_from(policy_differences)).scalar_one()
        assert kept == KEPT_DIFFERENCES
        assert store.differences(tenant="default", limit=1)[0].call_id == str(KEPT_DIFFERENCES + 499)
        assert [each["calls"] for each in store.counted(tenant="other")] == [1]
        store.start(stored(1), 10, "olga")
        assert store.differences() == [], "another candidate begins with an empty list"
