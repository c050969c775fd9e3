"""The suite for pytest that every backend passes. Ours do; one of your own should.

Write a class, in a test module of your own::

    class TestPostBackend(BackendContract):
        command = [sys.executable, "-m", "shop.worker"]

The settings must name the backend, have `"rail_async_tasks.testing.backends"` in INSTALLED_APPS,
and a database of their own that is migrated: rows are committed, and stay. This process is the one
that starts tasks; `command` is started as the one that runs them.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from rail_async_tasks import TaskCancelled, TaskFailed, TaskHandle, service
from rail_async_tasks.access import SYSTEM, Viewer
from rail_async_tasks.hosting import process as host
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.snapshot import TaskSnapshot, owner_topic
from rail_async_tasks.testing.backends import tasks
from rail_async_tasks.testing.backends.deliveries import DeliveryContract


class BackendContract(DeliveryContract):
    """Subclass it, with a name that pytest collects. For its attributes see `BackendWorld`."""

    # --- outcomes ---

    def test_a_coroutine(self) -> None:
        assert tasks.add.enqueue(a=1, b=2).result(self.timeout) == 3

    def test_a_function_in_a_thread(self) -> None:
        """It may use the ORM directly."""
        row = self.ends(tasks.in_a_thread.enqueue())
        assert row.result == {"name": "contract.in_a_thread", "status": "running"}

    def test_every_type_of_argument(self) -> None:
        """Arrives as a value of its type, in any process."""
        given: dict[str, Any] = {
            "number": -7, "ratio": 1.5, "text": 'é"\\ \n', "flag": True,
            "at": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "day": date(2026, 1, 2),
            "price": Decimal("1.10"), "key": uuid.UUID(int=7), "colour": tasks.Colour.BLUE,
            "point": tasks.Point(x=1.0, tags=["a"]), "points": [tasks.Point(x=2.0, y=3.0)],
        }  # fmt: skip
        row = self.ends(tasks.echo.enqueue(**given))
        assert row.status == "completed", row.error
        given["nothing"] = None
        assert row.result == {name: f"{type(it).__name__} {it!r}" for name, it in given.items()}

    def test_a_failure(self) -> None:
        """Has its reason in the row; a `Fail` is not tried again."""
        with pytest.raises(TaskFailed, match="as it should") as failed:
            tasks.fall.enqueue().result(self.timeout)
        assert failed.value.error_code == "exception"
        row = self.ends(tasks.give_up.enqueue())
        assert (row.status, row.error, row.attempts) == ("failed", "no use", 1)

    def test_retries(self) -> None:
        row = self.ends(tasks.flaky.enqueue())
        assert (row.status, row.result) == ("completed", 3)
        assert (row.attempts, row.retry_count) == (3, 2)

    def test_a_timeout(self) -> None:
        row = self.ends(tasks.slow.enqueue())
        assert (row.status, row.error_code) == ("failed", "timeout")

    def test_a_large_result(self) -> None:
        """Is kept up to the limit; beyond, the task fails and does not run again."""
        limit = self.settings.max_result_bytes
        fits = self.ends(tasks.large.enqueue(size=limit - 100))
        assert (fits.status, len(str(fits.result))) == ("completed", limit - 100)
        row = self.ends(tasks.large.enqueue(size=limit + 100))
        assert (row.status, row.error_code, row.attempts) == ("failed", "result_too_large", 1)

    def test_many(self) -> None:
        """Each runs once."""
        handles = [tasks.add.enqueue(a=n, b=1) for n in range(100)]
        for n, handle in enumerate(handles):
            row = self.ends(handle)
            assert (row.result, row.attempts, row.seq) == (n + 1, 1, 3)

    # --- where and when ---

    def test_every_queue_is_served(self) -> None:
        """By a worker, where there are workers."""
        row = self.ends(tasks.where.enqueue())
        assert row.status == "completed"
        assert (row.result == os.getpid()) != bool(self.command)

    def test_a_delay(self) -> None:
        """It begins when its time has come, and not much later."""
        self.only_if_something_waits()
        row = self.ends(tasks.add.using(delay=1.5).enqueue(a=1, b=1))
        assert row.status == "completed"
        assert row.started_at is not None
        waited = (row.started_at - row.created_at).total_seconds()
        assert 1.5 <= waited < 1.5 + 5

    def test_priorities_in_a_queue(self) -> None:
        if not self.backend.capabilities.priority:
            pytest.skip("This backend says that it keeps no priorities in a queue.")
        self._assert_first(urgent={"priority": 5}, usual={"priority": -5})

    def test_priorities_of_queues(self) -> None:
        if not self.backend.capabilities.queue_priority:
            pytest.skip("This backend says that it keeps no priorities of queues.")
        self._assert_first(urgent={"queue": "high"}, usual={"queue": "low"})

    def _assert_first(self, urgent: dict[str, Any], usual: dict[str, Any]) -> None:
        """Asserts that of tasks that wait for a slot, the less urgent start last."""
        self.only_if_something_waits()
        if self.slots is None:
            pytest.skip("Say in `slots` how many run at once.")
        holders = [tasks.hold.enqueue(seconds=3600.0) for _ in range(self.slots)]
        for holder in holders:
            self.begun(holder)
        waiting = [
            tasks.hold.using(**options).enqueue(seconds=0.2)
            for options in (usual, urgent)
            for _ in range(4 * self.slots)
        ]
        for holder in holders:
            holder.cancel()
        rows = [self.ends(handle) for handle in waiting]
        order = sorted(range(len(rows)), key=lambda n: str(rows[n].started_at))
        # A worker may have fetched some before, so the last ones are compared.
        assert set(order[-self.slots :]) <= set(range(4 * self.slots)), str(order)

    def test_the_concurrency_of_a_queue(self) -> None:
        """No more of its tasks at once in a process."""
        queue = self.settings.queues.get(tasks.NARROW_QUEUE)
        if queue is None or queue.concurrency is None or not self.command:
            pytest.skip(f'Give the queue "{tasks.NARROW_QUEUE}" a concurrency in the settings.')
        assert self.backend.capabilities.queue_concurrency
        rows = [self.ends(it) for it in [tasks.narrow.enqueue(seconds=0.2) for _ in range(12)]]
        runs: list[Any] = [row.result for row in rows]
        for pid, began, _ in runs:
            at_once = [it for it in runs if it[0] == pid and it[1] <= began < it[2]]
            assert len(at_once) <= queue.concurrency

    # --- cancels and progress ---

    def test_a_cancel_of_what_waits(self) -> None:
        """The body never runs."""
        self.only_if_something_waits()
        handle = tasks.add.using(delay=3600).enqueue(a=1, b=1)
        assert handle.cancel().status == "cancelled"
        row = TaskExecution.objects.get(id=handle.id)
        assert (row.status, row.attempts) == ("cancelled", 0)

    @pytest.mark.parametrize("body", ["linger", "linger_in_a_thread"])
    def test_a_cancel_of_what_runs(self, body: str) -> None:
        if not self.backend.capabilities.cancel_running:
            pytest.skip("By its capabilities this backend has no cancel reach a running body.")
        handle = getattr(tasks, body).enqueue()
        self.begun(handle)
        assert handle.cancel().status == "running"
        with pytest.raises(TaskCancelled):
            handle.result(self.timeout)
        row = TaskExecution.objects.get(id=handle.id)
        assert (row.error_code, row.attempts) == ("cancelled", 1)

    def test_progress_reaches_a_watcher(self) -> None:
        """In order, and with the end last."""
        self.only_if_something_waits()
        handle = tasks.climb.enqueue(steps=10, pause=0.5)
        seen = self._watched(handle)
        assert [it.status for it in seen if it.is_final] == ["completed"]
        assert (seen[-1].result, seen[-1].progress) == (10, 100)
        versions = [it.version for it in seen]
        assert versions == sorted(set(versions))
        assert [it for it in seen if 0 < it.progress < 100]

    def _watched(self, handle: TaskHandle) -> list[TaskSnapshot]:
        async def watch() -> list[TaskSnapshot]:
            snapshots: AsyncGenerator[TaskSnapshot, None] = service.watch(SYSTEM, handle.id)
            async with asyncio.timeout(self.timeout + 5), aclosing(snapshots):
                return [it async for it in snapshots]

        return async_to_sync(watch)()

    def test_a_late_watcher_sees_nothing_that_ended_before(self) -> None:
        """Also when the periodic re-read for all watchers brings rows that ended before."""
        owner = uuid.uuid4().hex
        for n in range(2):
            assert self.ends(tasks.add.using(owner=owner).enqueue(a=n, b=1)).status == "completed"

        async def watch() -> tuple[uuid.UUID, list[TaskSnapshot]]:
            snapshots = service.watch_mine(Viewer(owner))
            async with asyncio.timeout(self.timeout + 5), aclosing(snapshots):
                first = asyncio.ensure_future(anext(snapshots))
                while owner_topic(owner, None) not in host.bus().watched():  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
                # Longer than the time between two such reads.
                last = await tasks.hold.using(owner=owner).aenqueue(seconds=2.5)
                seen = [await first]
                while not seen[-1].is_final or seen[-1].id != last.id:
                    seen.append(await anext(snapshots))
                return last.id, seen

        last_id, seen = async_to_sync(watch)()
        assert {it.id for it in seen} == {last_id}
