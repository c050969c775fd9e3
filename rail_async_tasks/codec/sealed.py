"""Sensitive arguments: kept encrypted in the row, and opened only for the body.

A sealed argument is stored as `{"$sealed": "<Fernet token>"}` in the place of its JSON. The token
is bound to the task and the argument's name, so that one cannot be moved to where it is shown.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import ConfigurationError, InvalidArguments

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

MARK: Final = "$sealed"


def seal(raw: bytes, *, task: str, names: Collection[str]) -> bytes:
    """The JSON object `raw` with the arguments `names` sealed, by the newest of the keys.

    Raises:
        ConfigurationError: there are no `encryption_keys`, or cryptography is not installed.
    """
    arguments: dict[str, msgspec.Raw] = _open(raw)
    sealed: dict[str, Any] = dict(arguments)
    found = sorted(names & arguments.keys())
    if not found:
        return raw
    fernet = _fernet(task)
    for name in found:
        content = msgspec.json.encode([task, name, arguments[name]])
        sealed[name] = {MARK: fernet.encrypt(content).decode()}
    return msgspec.json.encode(sealed)


def unseal(raw: bytes | str, *, task: str, names: Collection[str]) -> bytes:
    """What `seal` was given. What was stored before its argument became sensitive stays as it is.

    Raises:
        InvalidArguments: an argument cannot be opened; the message names it.
        ConfigurationError: as `seal`.
    """
    arguments = _open(raw)
    opened: dict[str, msgspec.Raw] = dict(arguments)
    for name in sorted(names & arguments.keys()):
        token = _token(arguments[name])
        if token is not None:
            opened[name] = _opened(token, task, name)
    return msgspec.json.encode(opened)


def fingerprint(raw: bytes, task: str) -> str:
    """Tells equal arguments apart from others without showing what they are, to who lacks the key.

    Raises:
        ConfigurationError: as `seal`.
    """
    return hmac.new(_keys(task)[0], raw, hashlib.sha256).hexdigest()


def _open(raw: bytes | str) -> dict[str, msgspec.Raw]:
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


def _opened(token: bytes, task: str, name: str) -> msgspec.Raw:
    from cryptography.fernet import InvalidToken

    try:
        content = _fernet(task).decrypt(token)
    except InvalidToken:
        raise InvalidArguments(
            f"Argument {name} can't be decrypted: the key that it was kept with is none of"
            " encryption_keys."
        ) from None
    owner, argument, value = msgspec.json.decode(content, type=tuple[str, str, msgspec.Raw])
    if (owner, argument) != (task, name):
        raise InvalidArguments(f"Argument {name} was kept for something else.")
    return value


def _keys(task: str) -> tuple[bytes, ...]:
    keys = get_settings().encryption_keys
    if not keys:
        raise ConfigurationError(
            f"Task {task!r} has sensitive arguments, and there is nothing to encrypt them with: set"
            ' task_settings["encryption_keys"].'
        )
    return keys


def _fernet(task: str) -> MultiFernet:
    keys = _keys(task)
    try:
        from cryptography.fernet import Fernet, MultiFernet
    except ImportError as error:
        raise ConfigurationError(
            "Sensitive arguments need the package cryptography: pip install"
            ' "rail_async_tasks[crypto]".'
        ) from error
    return MultiFernet([Fernet(key) for key in keys])
