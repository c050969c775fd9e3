"""The command as a test runs it, and rows of any state."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command

from rail_async_tasks.ids import new_id
from rail_async_tasks.models import TaskExecution, TaskRuntime
from rail_async_tasks.states import FINAL
from tests.support.runtimes import configure, declarations_are_the_tests_own, store

__all__ = ["configure", "declarations_are_the_tests_own", "store"]


class Said(NamedTuple):
    """What the command has written, and its exit code."""

    code: int
    out: str
    error: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def tasks() -> Callable[..., Said]:
    """Runs `manage.py tasks` with these arguments, off a terminal."""

    def run(*arguments: object) -> Said:
        out, code, error = io.StringIO(), 0, ""
        try:
            call_command("tasks", *map(str, arguments), stdout=out)
        except CommandError as stop:
            code, error = stop.returncode, str(stop)
        except SystemExit as end:
            code = int(end.code or 0)
        return Said(code, out.getvalue(), error)

    return run


@pytest.fixture
def row() -> Callable[..., TaskExecution]:
    """Stores an execution in a state, created `age` seconds ago."""

    def create(status: str = "pending", *, age: float = 0, **fields: Any) -> TaskExecution:
        at = datetime.now(UTC) - timedelta(seconds=age)
        running = status == "running"
        defaults: dict[str, Any] = {
            "name": "cli.row", "queue": "default", "created_at": at, "updated_at": at,
            "completed_at": at if status in FINAL else None,
            "started_at": at if running or status == "completed" else None,
            "runtime_id": new_id() if running else None,
            "token": new_id() if running else None,
            "attempts": 1 if running else 0,
        }  # fmt: skip
        return TaskExecution.objects.create(status=status, **(defaults | fields))

    return create


@pytest.fixture
def process_row() -> Callable[..., TaskRuntime]:
    """Stores the row of a process whose lease has `left` seconds left."""

    def create(left: float = 3600, **fields: Any) -> TaskRuntime:
        now = datetime.now(UTC)
        defaults: dict[str, Any] = {
            "id": new_id(), "place": "shop-1 4711", "names": ["cli.row"],
            "started_at": now - timedelta(hours=2), "renewed_at": now,
            "lapses_at": now + timedelta(seconds=left),
        }  # fmt: skip
        return TaskRuntime.objects.create(**(defaults | fields))

    return create


def ids(said: Said) -> list[UUID]:
    """Returns the ids of a list's JSON."""
    return [UUID(it["id"]) for it in said.json["results"]]
