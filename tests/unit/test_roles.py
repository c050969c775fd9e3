"""A process is a worker once it was started as one, or a broker has brought it a task."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rail_async_tasks import roles
from rail_async_tasks.hosting import process
from rail_async_tasks.roles import Role
from rail_async_tasks.workers import foreign, own
from rail_async_tasks.workers.delivery import adeliver, deliver


class Stop(Exception):
    """Raised in place of a runtime's start."""


@pytest.fixture(autouse=True)
def no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begins as a web process, in which no runtime starts."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise Stop

    async def arefuse(*_: Any, **__: Any) -> Any:
        raise Stop

    monkeypatch.setattr(roles, "_role", Role.WEB)
    monkeypatch.setattr(process, "runtime_in_thread", refuse)
    monkeypatch.setattr(process, "aruntime", arefuse)
    monkeypatch.setattr(own.server, "startup", arefuse)
    monkeypatch.setattr(foreign, "_start", lambda: None)


def test_a_process_is_a_web_process() -> None:
    assert roles.role() == "web"


def test_a_delivery_makes_a_worker() -> None:
    """Before the runtime starts, and so before the row is written."""
    with pytest.raises(Stop):
        deliver("an id")
    assert roles.role() == "worker"


async def test_a_delivery_on_a_loop_makes_a_worker() -> None:
    with pytest.raises(Stop):
        await adeliver("an id")
    assert roles.role() == "worker"


async def test_a_worker_process_is_one_before_its_first_task() -> None:
    """So that `tasks doctor` finds it at once."""
    with pytest.raises(Stop):
        async with own.worker_process():
            await asyncio.sleep(0)
    assert roles.role() == "worker"


@pytest.mark.parametrize("begin", [foreign.start_soon, foreign.begin_child])
def test_so_is_a_worker_of_a_framework(begin: Any) -> None:
    """Celery's, Dramatiq's and Django-Q's call one of these."""
    begin()
    assert roles.role() == "worker"
