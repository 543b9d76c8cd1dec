"""``trust`` in the configuration: off by default, and refused where it could not work."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.config import AgentConfig, Config
from gateway.config_trust import TrustConfig
from gateway.identity.principals import principal_of
from gateway.trust.settings import Settings
from gateway.trusted import is_outside


def test_without_a_section_no_trust_is_kept():
    assert not Config().trust.enabled


def test_the_defaults_of_the_file_are_those_of_the_core():
    assert TrustConfig().settings() == Settings()


def test_one_number_of_one_tier_may_be_changed():
    settings = TrustConfig.model_validate({"tiers": {3: {"horizon_calls": 20}}}).settings()
    assert settings.tiers[3].horizon_calls == 20
    assert settings.tiers[3].enter == 0.99
    assert settings.tiers[2] == Settings().tiers[2]


@pytest.mark.parametrize(
    ("section", "word"),
    [
        ({"per_day": 2}, "never exceed"),
        ({"half_life_days": 1, "per_day": 20}, "never exceed"),
        ({"tiers": {2: {"enter": 0.5, "hold": 0.9}}}, "would be lost"),
        ({"tiers": {4: {"enter": 0.5}}}, "asks for less"),
        ({"tiers": {2: {"unattended": ["read", "irreversible"]}, 3: {"unattended": ["read"]}}}, "takes away"),
        ({"tiers": {1: {"unattended": ["read", "reversible"]}}}, "only its budget_share"),
        ({"tiers": {5: {"enter": 0.5}}}, "tiers"),
        ({"initial": 2}, "initial"),
        ({"half_life_bad_days": 1}, "forgotten sooner"),
        ({"template_share": 0}, "template_share"),
        ({"tires": {}}, "tires"),
    ],
)
def test_what_could_not_work_refuses_to_load(section, word):
    with pytest.raises(ValidationError, match=word):
        Config.model_validate({"trust": {"enabled": True, **section}})


def agent(**changes) -> AgentConfig:
    return AgentConfig.model_validate({"owner": "team", **changes})


BUILD = {"model": "m", "prompt": "p", "tools": "t"}


def test_what_an_agent_is_comes_from_its_credential_or_the_configuration_and_must_agree():
    known = principal_of("bot", agent(build=BUILD), "enforce", "k")
    assert known.attested == "config"
    assert principal_of("bot", agent(), "enforce", "k").attested == ""
    assert principal_of("bot", agent(), "enforce", "k", build=known.build).attested == "credential"
    assert principal_of("bot", agent(build=BUILD), "enforce", "k", build=known.build).attested == "credential"
    other = principal_of("bot", agent(build=BUILD), "enforce", "k", build="another")
    assert (other.attested, other.build) == ("conflict", "another")


@pytest.mark.parametrize("part", ["model", "prompt", "tools"])
def test_any_change_of_what_it_is_makes_another_version(part):
    before = principal_of("bot", agent(build=BUILD), "enforce", "k").build
    assert principal_of("bot", agent(build={**BUILD, part: "x"}), "enforce", "k").build != before


@pytest.mark.parametrize("operator", ["ann", "ann-oncall", "ann.miller@example.com"])
@pytest.mark.parametrize("owner", ["ann", "ann-oncall", "payments"])
def test_nobody_is_outside_their_own_team_under_another_name(operator, owner):
    said = {"aliases": {"ann": ["ann.miller@example.com", "ann-oncall"]}, "groups": {"payments": ["ann"]}}
    config = Config.model_validate({"approvals": said})
    assert not is_outside(config, operator, owner)
    assert is_outside(config, "bob", owner)
