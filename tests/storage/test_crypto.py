"""The storage key: what it accepts as a key, and what it keeps from whoever has only the file."""

from __future__ import annotations

import base64
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigError
from gateway.storage.crypto import ENVIRONMENT, Sealed, StorageKey, Unreadable, load_key, new_key


def seal(key: StorageKey, name: str, data: bytes) -> Sealed:
    return Sealed(*key.sealer(time.time_ns()).seal(name, data))


@pytest.fixture
def key() -> StorageKey:
    return StorageKey(base64.b64decode(new_key()))


def test_what_is_sealed_opens_again_and_shows_nothing(key: StorageKey) -> None:
    sealed = seal(key, "call/1", b"the secret amount")
    assert b"secret" not in sealed.ciphertext
    assert key.open("call/1", sealed) == b"the secret amount"


@given(st.binary(max_size=300))
def test_equal_payloads_look_different_each_time(data: bytes) -> None:
    key = StorageKey(bytes(range(32)))
    first, second = seal(key, "call/1", data), seal(key, "call/1", data)
    assert first.ciphertext != second.ciphertext
    assert first.nonce != second.nonce
    assert key.mac("call-1/arguments", data) != key.mac("call-2/arguments", data)
    assert key.mac("call-1/arguments", data) == key.mac("call-1/arguments", data)


def test_a_payload_moved_to_another_call_does_not_open(key: StorageKey) -> None:
    with pytest.raises(Unreadable, match="altered"):
        key.open("call/2", seal(key, "call/1", b"x"))


def test_an_altered_payload_does_not_open(key: StorageKey) -> None:
    sealed = seal(key, "call/1", b"x")
    flipped = bytes([sealed.ciphertext[0] ^ 1]) + sealed.ciphertext[1:]
    with pytest.raises(Unreadable, match="altered"):
        key.open("call/1", sealed._replace(ciphertext=flipped))


def test_another_key_is_reported_by_name(key: StorageKey) -> None:
    other = StorageKey(os.urandom(32))
    with pytest.raises(Unreadable, match=f"sealed with storage key {key.fingerprint}, and this is"):
        other.open("call/1", seal(key, "call/1", b"x"))


def test_each_day_has_a_key_of_its_own(key: StorageKey) -> None:
    sealed = seal(key, "call/1", b"x")
    fingerprint, day = sealed.key_id.split(".")
    with pytest.raises(Unreadable, match="altered"):
        key.open("call/1", sealed._replace(key_id=f"{fingerprint}.{int(day) + 1}"))


def test_a_key_file_made_as_told_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(new_key() + "\n")
    path.chmod(0o600)
    assert load_key(path, {}).fingerprint == load_key(path, {}).fingerprint


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.write_text(new_key())
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_key(path, {})


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (base64.b64encode(bytes(16)).decode(), "16 bytes instead of 32"),
        (base64.b64encode(bytes(32)).decode(), "one byte repeated"),
        (base64.b64encode(b"\xff" * 32).decode(), "one byte repeated"),
        ("changeme", "6 bytes instead of 32"),
        ("not base64!", "is not base64"),
        ("", "0 bytes instead of 32"),
    ],
)
def test_a_weak_key_is_refused(value: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load_key(None, {ENVIRONMENT: value})


def test_no_key_two_keys_or_an_absent_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no storage key"):
        load_key(None, {})
    with pytest.raises(ConfigError, match="remove one"):
        load_key(tmp_path / "key", {ENVIRONMENT: new_key()})
    with pytest.raises(ConfigError, match="No such file"):
        load_key(tmp_path / "key", {})
