"""The stores and settings of the integration tests, and clients."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from django.test import AsyncClient

from rail_async_tasks.runtime import observers
from tests.support.recorder import Recorder
from tests.support.runtimes import configure, declarations_are_the_tests_own, ends_cleanly, store

__all__ = ["configure", "declarations_are_the_tests_own", "ends_cleanly", "store"]


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """An observer that records its calls."""
    seen = Recorder()
    monkeypatch.setattr(observers, "_factories", {**observers._factories})
    observers.register(lambda settings: seen)
    return seen


@pytest.fixture
def tasks_log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[logging.LogRecord]]:
    """The records of what is said about tasks."""
    caplog.set_level(logging.INFO, "rail_async_tasks.tasks")
    return lambda: [it for it in caplog.records if it.name == "rail_async_tasks.tasks"]


@pytest.fixture
def web() -> AsyncClient:
    """Asks over HTTP, in the loop of the test."""
    return AsyncClient()
