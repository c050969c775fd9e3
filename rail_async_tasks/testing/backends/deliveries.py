"""The suite's tests of brokers and workers: ids that come twice, workers that end."""

from __future__ import annotations

import os
import socket
import time
from datetime import UTC, datetime, timedelta

import pytest

from rail_async_tasks.backends.broker import BrokerBackend
from rail_async_tasks.ids import new_id
from rail_async_tasks.models import TaskExecution, TaskRuntime
from rail_async_tasks.testing.backends import tasks
from rail_async_tasks.testing.backends.worker import WorkerProcess
from rail_async_tasks.testing.backends.world import FINAL, BackendWorld


class DeliveryContract(BackendWorld):
    """Deliveries that are double, late or of no use; workers that stop and that are killed."""

    def test_an_id_that_comes_again_does_not_run_again(self) -> None:
        """Neither while it runs nor after its end."""
        self.only_with_a_broker()
        handle = tasks.hold.enqueue(seconds=0.5)
        self.begun(handle)
        self.push(self.dispatch(handle.id, "contract.hold"), times=3)
        row = self.ends(handle)
        self.push(self.dispatch(handle.id, "contract.hold"), times=3)
        assert tasks.add.enqueue(a=1, b=2).result(self.timeout) == 3
        again = TaskExecution.objects.get(id=handle.id)
        assert (again.status, again.attempts, again.seq) == ("completed", 1, row.seq)

    def test_workers_are_known_from_other_processes(self) -> None:
        """By the role in their rows: `tasks doctor` counts workers, which alone run tasks."""
        self.only_with_a_broker()
        handle = tasks.hold.enqueue(seconds=0.5)
        self.begun(handle)
        holder = TaskExecution.objects.get(id=handle.id).runtime_id
        assert holder is not None
        runs = TaskRuntime.objects.filter(id=holder)
        deadline = time.monotonic() + self.timeout
        while runs.get().role != "worker":  # one that began otherwise learns it at a delivery
            assert time.monotonic() < deadline, runs.get().role
            time.sleep(0.02)
        starts = TaskRuntime.objects.get(place=f"{socket.gethostname()} {os.getpid()}", dead=False)
        assert starts.role == "web"
        self.ends(handle)

    def test_an_id_without_a_row_is_dropped(self) -> None:
        """And other tasks still run."""
        self.only_with_a_broker()
        self.push(self.dispatch(new_id(), "contract.add"), times=3)
        assert tasks.add.enqueue(a=1, b=2).result(self.timeout) == 3

    def test_an_unknown_name_waits(self) -> None:
        """Tasks that come after it run."""
        self.only_if_something_waits()
        now = datetime.now(UTC)
        row = TaskExecution.objects.create(
            id=new_id(), name="contract.not_yet", status="pending", arguments={},
            queue=self.settings.default_queue, created_at=now, updated_at=now,
        )  # fmt: skip
        assert tasks.add.enqueue(a=1, b=2).result(self.timeout) == 3
        if isinstance(self.backend, BrokerBackend):
            self.push(self.dispatch(row.id, row.name), times=1)
        assert tasks.add.enqueue(a=1, b=2).result(self.timeout) == 3
        row.refresh_from_db()
        assert (row.status, row.attempts) == ("pending", 0)
        row.delete()

    def test_a_worker_that_is_stopped(self) -> None:
        """Its running tasks are handed back at no cost of a retry, and go on in the next worker."""
        worker = self._a_worker()
        handles = [it.enqueue() for it in (tasks.linger, tasks.linger_in_a_thread, tasks.linger)]
        for handle in handles:
            self.begun(handle)
        worker.terminate()
        worker.wait(self.settings.drain_seconds + 10)
        for handle in handles:
            row = TaskExecution.objects.get(id=handle.id)
            assert (row.status, row.attempts, row.retry_count) == ("retrying", 1, 0), self.said()
        waits = tasks.add.enqueue(a=1, b=2)
        self.work()
        for handle in handles:
            row = self.ends(handle)
            assert (row.status, row.attempts, row.retry_count) == ("completed", 2, 0)
        assert waits.result(self.timeout) == 3

    def test_a_worker_that_is_killed(self) -> None:
        """Another worker runs its tasks, within `lease_seconds` + 10; one outcome each."""
        victim = self._a_worker()
        handles = [tasks.linger.enqueue() for _ in range(3)]
        for handle in handles:
            self.begun(handle)
        runtimes = TaskRuntime.objects.filter(dead=False)
        before = runtimes.count()
        self.work()
        tasks.where.enqueue().result(self.timeout)
        deadline = time.monotonic() + self.timeout
        while runtimes.count() <= before:
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)
        killed_at = datetime.now(UTC)
        victim.kill()
        within = self.settings.lease_seconds + 10
        for handle in handles:
            row = self.until(handle.id, lambda row: row.status in FINAL, within + self.timeout)
            assert (row.status, row.attempts, row.crashes) == ("completed", 2, 1)
            assert row.retry_count == 0
            assert row.completed_at is not None
            assert row.completed_at - killed_at < timedelta(seconds=within)

    def _a_worker(self) -> WorkerProcess:
        """Returns the only worker that runs; stops others, which would each run a part."""
        if not self.command:
            pytest.skip("This process runs the tasks.")
        running = [worker for worker in self.workers if worker.running]
        for extra in running[1:]:
            extra.stop(self.settings.drain_seconds + 5)
        assert tasks.add.enqueue(a=1, b=2).result(self.timeout) == 3
        return running[0]
