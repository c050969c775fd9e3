"""Sensitive arguments: encrypted in the row, decrypted for the body alone.

An encrypted argument is stored as `{"$sealed": "<Fernet token>"}` in the place of its JSON. The
token holds the names of the task and of the argument, so that it can't be moved to a place where
its content is shown.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rail_async_tasks.errors import ConfigurationError, InvalidArguments

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

MARK: Final = "$sealed"

# Fernet keys, the newest first; None or empty where `encryption_keys` is not set.
Keys = Sequence[bytes] | None


def encrypt(raw: bytes, keys: Keys, *, task: str, names: Collection[str]) -> bytes:
    """Return the JSON object `raw` with the arguments `names` encrypted by the newest key.

    Raises:
        ConfigurationError: there are no keys, or cryptography is not installed.
    """
    arguments = _arguments(raw)
    found = sorted(names & arguments.keys())
    if not found:
        return raw
    stored: dict[str, Any] = dict(arguments)
    fernet = _fernet(keys, task)
    for name in found:
        content = msgspec.json.encode([task, name, arguments[name]])
        stored[name] = {MARK: fernet.encrypt(content).decode()}
    return msgspec.json.encode(stored)


def decrypt(raw: bytes | str, keys: Keys, *, task: str, names: Collection[str]) -> bytes:
    """Return what `encrypt` was given; any of the keys may have encrypted it.

    An argument that was stored before it became sensitive stays as it is.

    Raises:
        InvalidArguments: an argument cannot be decrypted; the message names it.
        ConfigurationError: as `encrypt`.
    """
    arguments = _arguments(raw)
    plain: dict[str, msgspec.Raw] = dict(arguments)
    for name in sorted(names & arguments.keys()):
        token = _token(arguments[name])
        if token is not None:
            plain[name] = _content(_fernet(keys, task), token, task, name)
    return msgspec.json.encode(plain)


def fingerprint(raw: bytes, keys: Keys, *, task: str) -> str:
    """Return a hash with the newest key: equal arguments match, others cannot guess them.

    Raises:
        ConfigurationError: there are no keys.
    """
    return hmac.new(_required(keys, task)[0], raw, hashlib.sha256).hexdigest()


def _arguments(raw: bytes | str) -> dict[str, msgspec.Raw]:
    try:
        return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError:
        raise InvalidArguments("The stored arguments are not a JSON object.") from None


def _token(value: msgspec.Raw) -> bytes | None:
    try:
        content = msgspec.json.decode(value, type=dict[str, str])
    except msgspec.MsgspecError:
        return None
    return content[MARK].encode() if content.keys() == {MARK} else None


def _content(fernet: MultiFernet, token: bytes, task: str, name: str) -> msgspec.Raw:
    from cryptography.fernet import InvalidToken

    try:
        content = fernet.decrypt(token)
    except InvalidToken:
        raise InvalidArguments(
            f"Argument {name} can't be decrypted: it was encrypted with a key that is not in"
            ' task_settings["encryption_keys"]. Add that key to the end of the list.'
        ) from None
    its_task, its_name, value = msgspec.json.decode(content, type=tuple[str, str, msgspec.Raw])
    if (its_task, its_name) != (task, name):
        raise InvalidArguments(
            f"Argument {name} can't be decrypted: its content belongs to the argument {its_name}"
            f" of the task {its_task}."
        )
    return value


def _required(keys: Keys, task: str) -> Sequence[bytes]:
    if not keys:
        raise ConfigurationError(
            f"Task {task!r} has sensitive arguments, and there is no key to encrypt them with: set"
            ' task_settings["encryption_keys"].'
        )
    return keys


def _fernet(keys: Keys, task: str) -> MultiFernet:
    found = _required(keys, task)
    try:
        from cryptography.fernet import Fernet, MultiFernet
    except ImportError as error:
        raise ConfigurationError(
            "Sensitive arguments need the package cryptography: pip install"
            ' "rail_async_tasks[crypto]".'
        ) from error
    return MultiFernet([Fernet(key) for key in found])
