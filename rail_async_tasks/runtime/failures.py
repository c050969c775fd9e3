"""The project's failure callback: how it is found, called and logged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from inspect import isawaitable
from typing import Any, Final
from uuid import UUID

from asgiref.sync import async_to_sync

from rail_async_tasks.conf import TaskSettings, import_from_setting
from rail_async_tasks.hooks import is_async
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.snapshot import TaskSnapshot

logger = get_logger("rail_async_tasks.failures")

Callback = Callable[..., Any]

# A call that has neither returned nor been renewed for so long (seconds) died with its process:
# another process may make it.
HOLD: Final = 60.0
# A call in the caller's thread gets this longer time: it starts after the transaction, and nothing
# renews its reservation.
INLINE_HOLD: Final = 3600.0


def hold_of(settings: TaskSettings, hold: float = HOLD) -> float | None:
    """Returns for how many seconds this process may make a failure's call; None without calls."""
    if settings.on_failure != "callback":
        return None
    return INLINE_HOLD if settings.backend == "sync" else hold


def keywords_of(snapshot: TaskSnapshot, traceback: str | None) -> dict[str, str]:
    """Returns the keyword arguments of a callback."""
    return {
        "taskId": str(snapshot.id),
        "task_name": snapshot.name,
        "error": snapshot.error or "",
        "traceback": traceback or "",
    }


def find_callback(settings: TaskSettings) -> Callback | None:
    """Returns the project's callback; None where there is none.

    Raises:
        ConfigurationError: it can't be imported.
    """
    if settings.on_failure != "callback":
        return None
    assert settings.failure_callback is not None
    place = 'task_settings["failure_callback"]'
    return import_from_setting(settings.failure_callback, place)  # type: ignore[no-any-return]


def call_here(callback: Callback, snapshot: TaskSnapshot, traceback: str | None) -> None:
    """Calls the callback in this thread, which has no running event loop. Never raises."""
    call = async_to_sync(callback) if is_async(callback) else callback
    error = error_of(partial(call, **keywords_of(snapshot, traceback)))
    if isinstance(error, KeyboardInterrupt):
        raise error
    if error is not None:
        log_error(snapshot.id, error)


def error_of(call: Callable[[], Any]) -> BaseException | None:
    """Calls in a thread without a running event loop; returns the error that the call raises."""
    try:
        answer = call()
        if isawaitable(answer):  # a plain function around a coroutine, as decorators make
            async_to_sync(_awaited)(answer)
    except BaseException as error:
        return error
    return None


async def _awaited(answer: Awaitable[Any]) -> None:
    await answer


def call_name(task_id: UUID) -> str:
    """Returns the name of a callback's call, for the log."""
    return f"The failure callback of task {task_id}"


def log_error(task_id: UUID, error: BaseException) -> None:
    """Logs the error of a callback, which is not called again: it would most likely fail again."""
    logger.error("%s raised", call_name(task_id), exc_info=error)
