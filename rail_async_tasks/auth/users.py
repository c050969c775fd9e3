"""Finds the user of a bearer token, by a query each time; the user must be active."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rail_async_tasks.access import find_user
from rail_async_tasks.auth.bearer import Bearer
from rail_async_tasks.conf import get_settings
from rail_async_tasks.hooks import contained
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import sentence

logger = get_logger("rail_async_tasks.auth")


def user_of(bearer: Bearer) -> Any | None:
    """Returns the user, or None for any token that is to be refused."""
    settings = get_settings().jwt
    if settings is None:
        return _refused('task_settings["jwt"] does not say how to verify it')
    from rail_async_tasks.auth.jwt import BadToken, verifier_of

    try:
        claim = verifier_of(settings).claim(bearer)
    except BadToken as error:
        return _refused(str(error))
    return load_user(claim)


async def auser_of(bearer: Bearer, in_thread: Callable[..., Any]) -> Any | None:
    """`user_of()` for async code; `in_thread` runs a function that uses the database."""
    settings = get_settings().jwt
    if settings is None:
        return _refused('task_settings["jwt"] does not say how to verify it')
    from rail_async_tasks.auth.jwt import BadToken, verifier_of

    try:
        claim = await verifier_of(settings).aclaim(bearer)
    except BadToken as error:
        return _refused(str(error))
    return await in_thread(contained(load_user))(claim)


def load_user(claim: object) -> Any | None:
    """Returns the active user whose primary key is the claim: an int, or `str(pk)`.

    The claim must be exact: the identity provider's `"007"` or `" 7"` may be another user than 7.
    """
    if isinstance(claim, bool) or not isinstance(claim, int | str):
        return _refused("its claim is no primary key")
    try:
        user = find_user(str(claim))
    except ValueError:  # an integer of too many digits, too
        return _refused("its claim is no primary key")
    if user is None:
        return _refused("its user does not exist")
    if not getattr(user, "is_active", True):
        return _refused("its user is not active")
    return user


def _refused(reason: str) -> Any | None:
    logger.warning("A bearer token was refused: %s", sentence(reason))
    return None
