"""Waiting for results of Django tasks."""

from __future__ import annotations

from typing import Any

from tests.support.waiting import eventually, wait_for


def finished(result: Any) -> Any:
    """Returns the result, read again once its task has finished."""

    def is_finished() -> bool:
        result.refresh()
        return bool(result.is_finished)

    wait_for(is_finished, lambda: repr(result))
    return result


def running(result: Any) -> Any:
    """Returns the result, read again once its task runs."""

    def is_running() -> bool:
        result.refresh()
        return bool(result.status == "RUNNING")

    wait_for(is_running, lambda: repr(result))
    return result


async def afinished(result: Any) -> Any:
    """`finished()` from async code."""

    async def is_finished() -> bool:
        await result.arefresh()
        return bool(result.is_finished)

    await eventually(is_finished, lambda: repr(result))
    return result
