"""The jobs of one worker: those that run in it, and those that Redis still has after their end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from rail_async_tasks.queue_limits import QueueLimits

# Jobs in all stages, as a multiple of those that may run at once.
MOST_HELD = 2


class Job(msgspec.Struct, frozen=True):
    """A job that runs here: the number of its queue, and whether it takes a thread."""

    queue: int
    in_thread: bool
    execution_id: Any


class HeldJobs:
    """Counts what runs here, and answers how much more may.

    Args:
        queues: the queues that the worker serves; a job names one by its index.
        concurrency: how many jobs run at once, of all queues together.
        threads: how many `def` jobs run at once.
        free_threads: returns how many threads of the runtime are free, and not held for good.
    """

    def __init__(
        self,
        queues: Sequence[QueueLimits],
        *,
        concurrency: int,
        threads: int,
        free_threads: Callable[[], int],
    ) -> None:
        self._limits = [queue.concurrency for queue in queues]
        self._concurrency = concurrency
        self._threads = threads
        self._free_threads = free_threads
        self._held: dict[str, Job] = {}
        # Those whose bodies have not ended, and how many of each queue and in threads.
        self._running: dict[str, Job] = {}
        self._of_queue: Counter[int] = Counter()
        self._in_threads = 0
        # Queue and id of the jobs that have ended here, but not yet in Redis.
        self.over: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._held

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """The queue and the id of each job that runs."""
        return iter([(job.queue, job_id) for job_id, job in self._held.items()])

    def begin(self, job_id: str, job: Job) -> None:
        self._held[job_id] = self._running[job_id] = job
        self._of_queue[job.queue] += 1
        self._in_threads += job.in_thread

    def free(self, job_id: str) -> None:
        """The job's body has ended: another may start. Its outcome has yet to be stored."""
        job = self._running.pop(job_id, None)
        if job is not None:
            self._of_queue[job.queue] -= 1
            self._in_threads -= job.in_thread

    def end(self, job_id: str) -> None:
        self.free(job_id)
        self.over.append((self._held.pop(job_id).queue, job_id))

    @property
    def room(self) -> int:
        """How many more may start, of all queues together."""
        room = self._concurrency - len(self._running)
        # A database that is slow to store outcomes must not gather more and more of them.
        return min(room, MOST_HELD * self._concurrency - len(self._held))

    def rooms(self) -> list[int]:
        """Returns how many more may start of each queue."""
        room = self.room
        return [
            room if limit is None else min(room, limit - self._of_queue[queue])
            for queue, limit in enumerate(self._limits)
        ]

    def room_in_threads(self) -> int:
        """Returns how many more `def` jobs may start."""
        return min(self._threads - self._in_threads, self._free_threads())
