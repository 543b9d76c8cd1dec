"""Only a whole, current key of a configured agent makes a principal."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import AgentConfig
from gateway.errors import Unauthenticated
from gateway.identity import keys
from gateway.identity.directory import Directory


@dataclass
class Key:
    id: str
    kind: str
    name: str
    secret_hash: str
    tenant: str = "default"
    role: str | None = None
    expires_ns: int | None = None
    revoked_ns: int | None = None


AGENTS = {"bot": AgentConfig(owner="team-a", labels=("finance",))}
AGENT = keys.mint("agent")
OPERATOR = keys.mint("operator")


def bearer(token: str) -> bytes:
    return f"Bearer {token}".encode()


def directory(now: int = 0, mode="enforce", **changes) -> Directory:
    made = Directory(lambda: now)
    agent = Key(AGENT.key_id, "agent", "bot", AGENT.secret_hash)
    for name, value in changes.items():
        setattr(agent, name, value)
    made.load(
        [agent, Key(OPERATOR.key_id, "operator", "ops", OPERATOR.secret_hash, role="viewer")], AGENTS, mode
    )
    return made


def code(made: Directory, header: bytes | None) -> str:
    with pytest.raises(Unauthenticated) as refused:
        made.authenticate(header)
    return refused.value.code


def test_a_valid_key_is_the_agent_it_was_made_for():
    who = directory().authenticate(bearer(AGENT.token))
    assert (who.agent, who.owner, who.labels, who.credential) == ("bot", "team-a", ("finance",), AGENT.key_id)


def test_without_a_credential_there_is_no_identity():
    assert code(directory(), None) == "no_credential"


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic Zm9vOmJhcg==",
        bearer(AGENT.token[:-1]),
        bearer(AGENT.token[:20]),
        bearer(AGENT.token + "x"),
        bearer(AGENT.token.replace("wgk", "wgx")),
        bearer(keys.mint("agent").token),
        AGENT.token.encode(),
        b"Bearer \xff\xfe",
        b"Bearer " + b"x" * 10_000,
        bearer(OPERATOR.token),
    ],
)
def test_a_wrong_truncated_or_foreign_key_is_refused(header):
    assert code(directory(), header) == "bad_credential"


@given(st.binary(max_size=200))
def test_no_garbage_is_ever_a_principal_or_a_crash(garbage):
    with pytest.raises(Unauthenticated):
        directory().authenticate(b"Bearer " + garbage)


def test_a_revoked_key_is_refused():
    assert code(directory(revoked_ns=1), bearer(AGENT.token)) == "revoked_credential"


def test_an_expired_key_is_refused_from_the_instant_it_expires():
    assert directory(now=9, expires_ns=10).authenticate(bearer(AGENT.token)).agent == "bot"
    assert code(directory(now=10, expires_ns=10), bearer(AGENT.token)) == "expired_credential"


def test_somebody_who_only_knows_the_key_id_does_not_learn_that_it_is_revoked():
    guess = AGENT.token.rsplit("_", 1)[0] + "_guess"
    assert code(directory(revoked_ns=1), bearer(guess)) == "bad_credential"


def test_a_key_of_an_agent_that_is_no_longer_configured_has_no_authority():
    assert code(directory(name="gone"), bearer(AGENT.token)) == "bad_credential"
    assert code(directory(tenant="other"), bearer(AGENT.token)) == "bad_credential"


def test_an_operator_key_runs_no_tools_and_an_agent_key_operates_nothing():
    made = directory()
    assert made.operator(bearer(OPERATOR.token)).role == "viewer"
    with pytest.raises(Unauthenticated):
        made.operator(bearer(AGENT.token))


def test_the_more_lenient_of_the_gateways_and_the_agents_mode_holds():
    assert directory(mode="observe").authenticate(bearer(AGENT.token)).mode == "observe"
    assert directory(mode="enforce").authenticate(bearer(AGENT.token)).mode == "enforce"


def test_the_revision_changes_with_every_change_that_matters():
    assert directory().revision == directory().revision
    assert (
        len({directory().revision, directory(revoked_ns=1).revision, directory(expires_ns=5).revision}) == 3
    )


def test_the_secret_is_not_in_what_is_stored():
    minted = keys.mint("agent")
    assert minted.token.split("_", 2)[2] not in minted.secret_hash
    assert len(minted.secret_hash) == 64
