"""The project's own authentication: the `authenticator` setting."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.utils.functional import LazyObject

from rail_async_tasks.access import is_plain
from rail_async_tasks.conf import import_from_setting
from rail_async_tasks.errors import Unauthenticated
from rail_async_tasks.hooks import asks_to_end, awaited, is_async
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.auth")

_PLACE = 'task_settings["authenticator"]'


def ask(path: str, subject: Any) -> Any | None:
    """Returns the user that the function at `path` finds in a request or a socket's payload.

    Returns `AnonymousUser` where the function returns None. Returns None where the caller is to be
    refused: the function raised `Unauthenticated`, or another error, which is logged. Raises
    `ConfigurationError`.
    """
    function = import_from_setting(path, _PLACE)
    if is_async(function):
        return async_to_sync(aask)(path, subject, sync_to_async)
    return _outcome(path, function, subject)


async def aask(path: str, subject: Any, in_thread: Callable[..., Any]) -> Any | None:
    """`ask()` for async code; `in_thread` runs a function that uses the database in a thread."""
    function = import_from_setting(path, _PLACE)
    if not is_async(function):
        return await in_thread(_outcome)(path, function, subject)
    try:
        answer = await awaited(lambda: function(subject), path)
    except Exception as error:  # noqa: BLE001 - a project's function
        return _refused(path, error)
    if isinstance(answer, LazyObject) or not is_plain(answer.__class__):
        return await in_thread(_outcome)(path, lambda _: answer, subject)
    return _outcome(path, lambda _: answer, subject)


def _outcome(path: str, function: Callable[[Any], Any], subject: Any) -> Any | None:
    from django.contrib.auth.models import AnonymousUser

    # Caught here: some exceptions, such as StopIteration, do not leave a thread.
    try:
        user = function(subject)
        if user is None:
            return AnonymousUser()
        if hasattr(user, "is_authenticated"):  # which also loads a lazy one
            return user
    except BaseException as error:
        if asks_to_end(error):
            raise
        return _refused(path, error)
    logger.error("%s %s returned a %s, which is no user.", _PLACE, path, type(user).__name__)
    return None


def _refused(path: str, error: BaseException) -> Any | None:
    if not isinstance(error, Unauthenticated):
        # The traceback without the exception's text, which may quote the credential.
        logger.error(
            "%s %s raised %s:\n%s",
            _PLACE, path, type(error).__name__, "".join(traceback.format_tb(error.__traceback__)),
        )  # fmt: skip
    return None
