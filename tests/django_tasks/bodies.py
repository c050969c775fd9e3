"""Functions that the tests make Django tasks of. Declared when TASKS names our backend."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import Group
from django.db import connections
from django.test.utils import override_settings

from rail_async_tasks.contrib.django_tasks import TaskContext, current_task
from tests.django_tasks.api import TASKS, task

# What bodies have seen, for the tests to look at; a test empties it.
seen: list[Any] = []
gate = threading.Event()


class Refused(Exception):
    """An exception of a project."""


def plain(number: int = 0) -> int:
    """A function that is no task."""
    return number


with override_settings(TASKS=TASKS):

    @task
    def echo(*args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the arguments."""
        return {"args": args, "kwargs": kwargs}

    @task
    def wait_in_pool(timeout: float) -> Any:
        """Wait for another task through a thread that lacks this body's context."""

        def wait() -> Any:
            try:
                return result.handle.result(timeout)
            finally:
                connections.close_all()

        result = echo.enqueue(1)
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(wait).result()

    @task
    async def aecho(*args: Any, **kwargs: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"args": args, "kwargs": kwargs}

    @task
    def typed(number: int, at: datetime | None = None) -> list[Any]:
        """Its annotations must convert nothing."""
        return [type(number).__name__, type(at).__name__]

    @task
    def refuse(text: str = "no") -> None:
        raise Refused(text)

    @task
    async def arefuse() -> None:
        raise KeyError("no")

    @task
    def return_it(what: str) -> Any:
        return {
            "object": object(), "bytes": b"text", "latin": b"\xff", "tuple": (1, 2), "set": {1},
            "keys": {1: "a", None: "b"}, "date": datetime(2026, 1, 1, tzinfo=UTC), "none": None,
            "nan": float("nan"),
        }[what]  # fmt: skip

    @task(takes_context=True)
    def describe(context: TaskContext, fails: int = 0) -> list[Any]:
        seen.append(context)
        if context.attempt <= fails:
            raise Refused
        result = context.task_result
        return [context.attempt, result.attempts, result.id, result.status, result.worker_ids]

    @task(takes_context=True)
    async def report(context: TaskContext) -> list[Any]:
        context.task.update_progress(40, "half")
        return [str(context.user), context.tenant_id, context.task.name]

    @task
    def report_without_context() -> int:
        current_task().update_progress(30, "some")
        return current_task().attempt

    @task
    def count_groups() -> int:
        return Group.objects.count()

    @task
    def wait() -> str:
        while not (gate.wait(0.01) or current_task().cancel_requested):
            pass
        current_task().raise_if_cancelled()
        return "waited"

    @task(queue_name="mail")
    def mail(number: int) -> None:
        seen.append(number)
