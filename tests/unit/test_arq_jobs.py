"""The jobs that run in a worker of arq, and the room for more."""

from __future__ import annotations

import pytest

from rail_async_tasks.queue_limits import QueueLimits
from rail_async_tasks.workers.arq.jobs import MOST_HELD, HeldJobs, Job

HIGH, NARROW = 0, 1


def held(*, concurrency: int = 10, threads: int = 4, free: int = 4) -> HeldJobs:
    """Two queues; the second runs two jobs at once."""
    queues = [QueueLimits("high", 10), QueueLimits("narrow", concurrency=2)]
    return HeldJobs(
        queues, concurrency=concurrency, threads=threads, free_threads=lambda: free
    )  # fmt: skip


def begin(jobs: HeldJobs, queue: int, *job_ids: str, in_thread: bool = False) -> None:
    for job_id in job_ids:
        jobs.begin(job_id, Job(queue, in_thread, job_id))


def test_room_is_what_is_left_of_all_and_of_each_queue() -> None:
    """A queue with a concurrency has no more room than that."""
    jobs = held(concurrency=3)
    assert (jobs.room, jobs.rooms()) == (3, [3, 2])
    begin(jobs, NARROW, "a")
    assert (jobs.room, jobs.rooms()) == (2, [2, 1])
    begin(jobs, NARROW, "b")
    assert (jobs.room, jobs.rooms()) == (1, [1, 0])
    begin(jobs, HIGH, "c")
    assert (jobs.room, jobs.rooms()) == (0, [0, 0])


def test_an_end_makes_room_and_waits_to_leave_redis() -> None:
    jobs = held()
    begin(jobs, NARROW, "a", "b")
    jobs.end("a")
    assert ("a" in jobs, "b" in jobs, len(jobs)) == (False, True, 1)
    assert jobs.rooms() == [9, 1]
    assert jobs.over == [(NARROW, "a")]
    assert list(jobs) == [(NARROW, "b")]


@pytest.mark.parametrize(("threads", "free", "room"), [(4, 4, 3), (2, 4, 1), (4, 1, 1), (4, 0, 0)])
def test_room_in_threads(threads: int, free: int, room: int) -> None:
    """By the jobs here that take one, and by the threads that the runtime has free."""
    jobs = held(threads=threads, free=free)
    begin(jobs, HIGH, "a", in_thread=True)
    begin(jobs, HIGH, "b")
    assert jobs.room_in_threads() == room


def test_a_body_that_has_ended_makes_room_before_its_outcome_is_stored() -> None:
    """For its queue and its thread too. Not without bound: outcomes may be slow to store."""
    jobs = held(concurrency=3, threads=1)
    begin(jobs, NARROW, "a", "b", in_thread=True)
    begin(jobs, HIGH, "c")
    assert (jobs.room, jobs.rooms(), jobs.room_in_threads()) == (0, [0, 0], -1)
    for job_id in ("a", "b", "c"):
        jobs.free(job_id)
    assert (jobs.room, jobs.rooms(), jobs.room_in_threads(), len(jobs)) == (3, [3, 2], 1, 3)
    begin(jobs, HIGH, "d", "e", "f")
    for job_id in ("d", "e"):
        jobs.free(job_id)
    assert len(jobs) == MOST_HELD * 3
    assert (jobs.room, jobs.over) == (0, [])
    jobs.end("a")
    assert (jobs.room, jobs.over) == (1, [(NARROW, "a")])
