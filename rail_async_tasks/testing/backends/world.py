"""The world of the backend suite: the process that starts tasks, and its worker processes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from rail_async_tasks import TaskHandle
from rail_async_tasks.backends import get_backend
from rail_async_tasks.backends.broker import BrokerBackend
from rail_async_tasks.conf import TaskSettings, get_settings
from rail_async_tasks.hosting import process as host
from rail_async_tasks.ledger.dispatch_records import Dispatch
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.testing.backends.worker import WorkerProcess

FINAL = ("completed", "failed", "cancelled")


class BackendWorld:
    """Starts and ends the workers; waits for rows. Base of `contracts.BackendContract`.

    Attributes:
        command: starts a worker that serves every queue; empty where this process runs the tasks.
        env: laid over this process's environment for the workers.
        slots: how many tasks run at once in all that `command` starts, or in this process.
            None leaves out the tests of priorities.
        timeout: seconds within which an idle worker has run a task that takes no time.
    """

    command: ClassVar[Sequence[str]] = ()
    env: ClassVar[Mapping[str, str]] = {}
    slots: ClassVar[int | None] = None
    timeout: ClassVar[float] = 30.0

    workers: ClassVar[list[WorkerProcess]]

    @classmethod
    def setup_class(cls) -> None:
        cls.workers = []
        if cls.command:
            cls.work()

    @classmethod
    def teardown_class(cls) -> None:
        for worker in cls.workers:
            worker.stop(get_settings().drain_seconds + 5)
        host.stop()

    @classmethod
    def work(cls) -> WorkerProcess:
        """Start a worker."""
        worker = WorkerProcess(cls.command, cls.env)
        cls.workers.append(worker)
        return worker

    @property
    def settings(self) -> TaskSettings:
        return get_settings()

    @property
    def backend(self) -> Any:
        return get_backend(get_settings())

    def ends(self, handle: TaskHandle) -> TaskExecution:
        """Wait until the row is final; returns it."""
        return self.until(handle.id, lambda row: row.status in FINAL)

    def until(
        self, task_id: Any, holds: Callable[[TaskExecution], bool], seconds: float | None = None
    ) -> TaskExecution:
        """Wait until `holds` is true of the row; returns it. A failure shows workers' output."""
        deadline = time.monotonic() + (seconds or self.timeout)
        while True:
            row = TaskExecution.objects.get(id=task_id)
            if holds(row):
                return row
            if time.monotonic() > deadline:
                pytest.fail(f"{row.name} is still {row.status}.\n{self.said()}")
            time.sleep(0.02)

    def begun(self, handle: TaskHandle) -> TaskExecution:
        """Wait until the body runs; returns the row."""
        return self.until(handle.id, lambda row: row.status == "running")

    def said(self) -> str:
        """Returns the output of all workers."""
        return "\n".join(f"--- a worker:\n{worker.said()}" for worker in self.workers)

    def dispatch(self, execution_id: uuid.UUID, name: str) -> Dispatch:
        """Returns what the ledger would hand to the backend, with a number of its own."""
        queue = self.settings.default_queue
        return Dispatch(id=execution_id, name=name, queue=queue, priority=0, number=9)

    def push(self, dispatch: Dispatch, times: int) -> None:
        """Send the id past the ledger, that many times."""
        for _ in range(times):
            host.from_thread(host.runtime_in_thread(), self.backend.push([dispatch]))

    def only_with_a_broker(self) -> None:
        """Skip the test for a backend without one."""
        if not isinstance(self.backend, BrokerBackend):
            pytest.skip("No broker carries ids here.")

    def only_if_something_waits(self) -> None:
        """Skip the test for a backend that runs tasks in their caller."""
        if self.backend.inline:
            pytest.skip("Everything runs at once in its caller.")
