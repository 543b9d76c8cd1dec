"""Only a whole, current key of a configured agent makes a principal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.config import AgentConfig
from gateway.errors import Unauthenticated
from gateway.identity import keys
from gateway.identity.directory import Directory
from gateway.storage.credentials import Credentials
from gateway.storage.database import Database

AGENTS = {"bot": AgentConfig(owner="team-a", labels=("finance",))}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Credentials]:
    path: Path = tmp_path_factory.mktemp("identity") / "keys.db"
    with Database(path).open() as database:
        yield Credentials(database)


@pytest.fixture(scope="module")
def agent(store: Credentials) -> keys.Minted:
    return keys.mint(store, kind="agent", tenant="default", name="bot")


@pytest.fixture(scope="module")
def operator(store: Credentials) -> keys.Minted:
    return keys.mint(store, kind="operator", tenant="default", name="ops", role="viewer")


def bearer(token: str) -> bytes:
    return f"Bearer {token}".encode()


def directory(*minted: keys.Minted, now: int = 0, mode="enforce", **changes) -> Directory:
    made = Directory(lambda: now)
    made.load([replace(key.credential, **changes) for key in minted], AGENTS, mode)
    return made


def code(made: Directory, header: bytes | None) -> str:
    with pytest.raises(Unauthenticated) as refused:
        made.authenticate(header)
    return refused.value.code


def test_a_valid_key_is_the_agent_it_was_made_for(agent):
    who = directory(agent).authenticate(bearer(agent.token))
    assert (who.agent, who.owner, who.labels) == ("bot", "team-a", ("finance",))
    assert who.credential == agent.credential.id


def test_without_a_credential_there_is_no_identity(agent):
    assert code(directory(agent), None) == "no_credential"


def test_a_wrong_truncated_or_foreign_key_is_refused(store, agent, operator):
    everyone = directory(agent, operator)
    stranger = keys.mint(store, kind="agent", tenant="default", name="bot")
    for header in (
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic Zm9vOmJhcg==",
        bearer(agent.token[:-1]),
        bearer(agent.token[:20]),
        bearer(agent.token + "x"),
        bearer(agent.token.replace("wgk_", "wgx_")),
        bearer(agent.token.replace("wgk_", "wgo_")),
        bearer(stranger.token),
        agent.token.encode(),
        b"Bearer \xff\xfe",
        b"Bearer " + b"x" * 10_000,
        bearer(operator.token),
        bearer(operator.token.replace("wgo_", "wgk_")),
    ):
        assert code(everyone, header) == "bad_credential", header


@given(st.binary(max_size=200))
def test_no_garbage_is_ever_a_principal_or_a_crash(garbage):
    with pytest.raises(Unauthenticated):
        Directory(lambda: 0).authenticate(b"Bearer " + garbage)


def test_a_revoked_key_is_refused_from_the_instant_of_its_revocation(agent):
    assert directory(agent, now=9, revoked_ns=10).authenticate(bearer(agent.token)).agent == "bot"
    assert code(directory(agent, now=10, revoked_ns=10), bearer(agent.token)) == "revoked_credential"


def test_an_expired_key_is_refused_from_the_instant_it_expires(agent):
    assert directory(agent, now=9, expires_ns=10).authenticate(bearer(agent.token)).agent == "bot"
    assert code(directory(agent, now=10, expires_ns=10), bearer(agent.token)) == "expired_credential"


def test_somebody_who_only_knows_the_key_id_does_not_learn_that_it_is_revoked(agent):
    guess = f"wgk_{agent.credential.id}_guess"
    assert code(directory(agent, revoked_ns=0), bearer(guess)) == "bad_credential"


def test_a_key_of_an_agent_that_is_no_longer_configured_has_no_authority(agent):
    assert code(directory(agent, name="gone"), bearer(agent.token)) == "bad_credential"
    assert code(directory(agent, tenant="other"), bearer(agent.token)) == "bad_credential"


def test_an_operator_key_runs_no_tools_and_an_agent_key_operates_nothing(agent, operator):
    everyone = directory(agent, operator)
    assert everyone.operator(bearer(operator.token)).role == "viewer"
    with pytest.raises(Unauthenticated):
        everyone.operator(bearer(agent.token))


def test_the_more_lenient_of_the_gateways_and_the_agents_mode_holds(agent):
    assert directory(agent, mode="observe").authenticate(bearer(agent.token)).mode == "observe"
    assert directory(agent, mode="enforce").authenticate(bearer(agent.token)).mode == "enforce"


def test_the_revision_changes_with_every_change_that_matters(agent):
    same = {directory(agent).revision, directory(agent).revision}
    changed = {directory(agent, revoked_ns=1).revision, directory(agent, expires_ns=5).revision}
    assert len(same) == 1 and len(same | changed) == 3


def test_a_rotated_key_works_until_its_holder_has_changed_over(store):
    old = keys.mint(store, kind="agent", tenant="default", name="bot")
    new = keys.rotate(store, old.credential.id, overlap_s=3600)
    assert new is not None and new.token != old.token
    both = Directory(lambda: new.credential.created_ns)
    both.load(store.list(), AGENTS, "enforce")
    assert both.authenticate(bearer(old.token)).agent == both.authenticate(bearer(new.token)).agent == "bot"
    later = Directory(lambda: new.credential.created_ns + 3601 * 10**9)
    later.load(store.list(), AGENTS, "enforce")
    assert code(later, bearer(old.token)) == "revoked_credential"


def test_the_secret_is_not_in_what_is_stored(tmp_path):
    with Database(tmp_path / "keys.db").open() as database:
        minted = keys.mint(Credentials(database), kind="agent", tenant="default", name="bot")
    secret = minted.token.split("_", 2)[2].encode()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert minted.credential.id.encode() in stored
    assert secret not in stored
