"""Django's own tasks over a broker: the worker imports the module that a row names."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from typing import Any

import pytest
from django.test.utils import override_settings

from devservers.redis import RedisServer
from rail_async_tasks.hosting import process as host
from tests.backends.kinds import KINDS
from tests.backends.lone import BOOT_TIMEOUT, lone_world
from tests.backends.settings import TASKS
from tests.backends.world import World
from tests.support.runtimes import declarations_are_the_tests_own
from tests.support.waiting import wait_for

__all__ = ["declarations_are_the_tests_own"]


@pytest.fixture
def arq(
    broker_server: RedisServer, postgres_server: Any, django_db_blocker: Any
) -> Iterator[World]:
    """An arq worker; this process enqueues."""
    with lone_world(KINDS["arq"], broker_server, postgres_server, django_db_blocker) as world:
        setting = {"task_settings": world.task_settings}
        with override_settings(TASKS=TASKS, RAIL_DJANGO_GRAPHQL=setting):
            yield world
            host.stop()


def test_a_worker_runs_a_task_whose_module_it_had_not_imported(arq: World) -> None:
    """The message has an id; the row has the name; the module makes a Task of the function."""
    worker = arq.work()
    mailing = importlib.import_module("tests.backends.bodies.mailing")
    result = mailing.send.enqueue(7)
    assert result.status == "READY"

    def is_finished() -> bool:
        result.refresh()
        return bool(result.is_finished)

    wait_for(is_finished, arq.said, timeout=BOOT_TIMEOUT)
    number, attempt, pid = result.return_value
    assert (number, attempt) == (7, 1)
    assert worker is not None
    assert pid in worker.family()
    assert pid != os.getpid()
