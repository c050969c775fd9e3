"""Sensitive arguments, encrypted with keys that are given."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet

from rail_async_tasks.codec.encryption import decrypt, encrypt, fingerprint
from rail_async_tasks.errors import ConfigurationError, InvalidArguments

OLD, NEW = Fernet.generate_key(), Fernet.generate_key()
RAW = b'{"a":"x","b":1}'


def test_an_encrypted_argument_decrypts_in_its_own_place_alone() -> None:
    """Neither for another argument nor for another task."""
    stored = encrypt(RAW, [NEW], task="one", names={"a"})
    assert b'"b":1' in stored
    assert b'"x"' not in stored
    assert decrypt(stored, [NEW], task="one", names={"a"}) == RAW
    moved = stored.replace(b'"a"', b'"b"', 1).replace(b'"b":1', b'"c":1')
    with pytest.raises(InvalidArguments, match="belongs to the argument a of the task one"):
        decrypt(moved, [NEW], task="one", names={"b"})
    with pytest.raises(InvalidArguments, match="belongs to the argument a of the task one"):
        decrypt(stored, [NEW], task="two", names={"a"})


def test_what_was_stored_plain_stays_readable() -> None:
    """Declaring an argument sensitive does not lose the tasks that wait; it needs no key."""
    assert decrypt('{"a":"x"}', None, task="one", names={"a"}) == b'{"a":"x"}'


def test_any_key_decrypts_and_the_first_encrypts() -> None:
    """Keys rotate: the newest goes first, old ones stay while rows need them."""
    stored = encrypt(RAW, [OLD], task="one", names={"a"})
    assert decrypt(stored, [NEW, OLD], task="one", names={"a"}) == RAW
    with pytest.raises(InvalidArguments, match="encryption_keys"):
        decrypt(stored, [NEW], task="one", names={"a"})
    with pytest.raises(InvalidArguments, match="Add that key"):
        decrypt(encrypt(RAW, [NEW, OLD], task="one", names={"a"}), [OLD], task="one", names={"a"})


@pytest.mark.parametrize("keys", [None, ()])
def test_without_a_key_nothing_is_encrypted(keys: tuple[bytes, ...] | None) -> None:
    """The error names the setting; a task without the argument needs no key."""
    with pytest.raises(ConfigurationError, match=r'set task_settings\["encryption_keys"\]'):
        encrypt(RAW, keys, task="one", names={"a"})
    with pytest.raises(ConfigurationError, match="encryption_keys"):
        fingerprint(RAW, keys, task="one")
    assert encrypt(RAW, keys, task="one", names={"z"}) == RAW


def test_a_fingerprint_depends_on_the_arguments_and_the_key() -> None:
    """Equal arguments meet; without the key a guess cannot be tried."""
    assert fingerprint(RAW, [NEW, OLD], task="one") == fingerprint(RAW, [NEW], task="one")
    assert fingerprint(RAW, [NEW], task="one") != fingerprint(RAW, [OLD], task="one")
    assert fingerprint(RAW, [NEW], task="one") != fingerprint(b"{}", [NEW], task="one")
