"""Weak settings of where policy comes from do not start."""

from __future__ import annotations

import pytest
import yaml

from gateway.config import load
from gateway.errors import ConfigError
from gateway.rollout import keys
from tests.policy.bundles import pair

KEY = {"keys": {"release": {"algorithm": "ES256", "file": "release.pub"}}}
URL = "https://policy.example.com/p.tar.gz"

WEAK = {
    "a url that nobody signs": ({"url": URL}, "verify.keys"),
    "a file that nobody signs": ({"file": "p.tar.gz"}, "verify.keys"),
    "a url without TLS": ({"url": "http://policy.example.com/p.tar.gz", "verify": KEY}, "https"),
    "two sources": ({"url": URL, "file": "p.tar.gz", "verify": KEY}, "exactly one"),
    "no source": ({"verify": KEY}, "exactly one"),
    "a token for a file": ({"file": "p.tar.gz", "token": "x", "verify": KEY}, "for a 'url'"),
    "hard before soft": ({"url": URL, "verify": KEY, "stale_soft_s": 9, "stale_hard_s": 8}, "stale_hard_s"),
    "an algorithm that is none": (
        {"url": URL, "verify": {"keys": {"k": {"algorithm": "none", "file": "k"}}}}, "algorithm",
    ),
    "a token that is not set": ({"url": URL, "token": "${NOT_SET}", "verify": KEY}, "NOT_SET"),
    "a misspelt setting": ({"url": URL, "verify": {**KEY, "require": False}}, "require"),
}  # fmt: skip


def configured(folder, source):
    path = folder / "wardgate.yaml"
    path.write_text(yaml.safe_dump({"policy": {"source": source}}))
    return load(path).policy


@pytest.mark.parametrize("what", WEAK)
def test_it_does_not_start_and_says_which_setting(tmp_path, what):
    source, says = WEAK[what]
    with pytest.raises(ConfigError, match=says):
        configured(tmp_path, source)


@pytest.mark.parametrize(
    ("source", "signed"),
    [
        ({"url": URL, "verify": KEY}, True),
        ({"url": "http://127.0.0.1:1/p", "verify": KEY}, True),
        ({"url": URL, "verify": {"required": False}}, False),
        ({"file": "p.tar.gz", "verify": KEY}, True),
        ({"path": "p"}, False),
        ({"path": "p", "verify": KEY}, True),
        ({"path": "p", "verify": {**KEY, "required": False}}, False),
    ],
)
def test_a_signature_is_needed_unless_that_was_given_up_in_so_many_words(tmp_path, source, signed):
    assert configured(tmp_path, source).source.signed is signed


def test_keys_are_read_beside_the_configuration_and_must_fit_their_algorithm(tmp_path):
    source = configured(tmp_path, {"url": URL, "verify": KEY}).source
    with pytest.raises(ConfigError, match=r"policy\.source\.verify\.keys\.release: .*No such file"):
        keys(source)
    (tmp_path / "release.pub").write_bytes(pair("RS256")[1].material)
    with pytest.raises(ConfigError, match="is no key for ES256"):
        keys(source)
    (tmp_path / "release.pub").write_bytes(pair("ES256")[1].material)
    assert keys(source)["release"].algorithm == "ES256"
