"""arq's worker for queues of ids: one Redis claim takes many; it wakes up when a queue has jobs.

A job is an id: the row decides whether it runs, how often and for how long, and has its outcome. So
nothing is lost with a job, and a job that comes twice does no harm.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Any, Final

from rail_async_tasks.backends.arq.errors import outage
from rail_async_tasks.backends.arq.keys import (
    EXECUTE,
    IN_THREAD,
    decoded,
    deserialize,
    health_key,
    queue_key,
    serialize,
)
from rail_async_tasks.backends.arq.library import ArqRedis, Worker, func
from rail_async_tasks.backoff import Backoff
from rail_async_tasks.queue_limits import QueueLimits
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.workers.arq.jobs import HeldJobs, Job
from rail_async_tasks.workers.arq.queues import Claims, WorkerQueues
from rail_async_tasks.workers.arq.waiting import wait_for
from rail_async_tasks.workers.delivery import adeliver, bring

logger = get_logger("rail_async_tasks.backends")

# All in seconds. The longest time between two Redis claims, should a wake-up be lost.
CLAIM_INTERVAL: Final = 5.0
# One wait for a wake-up; shorter than the client's own timeout for an answer.
WAKE_UP_TIMEOUT: Final = 2.0
# A worker that has left jobs over for want of a thread lets other workers wake up first.
STEP_BACK: Final = 0.25
HEALTH_INTERVAL: Final = 10.0
# The time that the last commands to Redis get at the end.
CLOSE_TIMEOUT: Final = 1.0


async def execute(ctx: dict[str, Any], execution_id: Any, **words: Any) -> None:
    """The function of every job. `words` are for tools that show the queue."""
    await adeliver(execution_id)


class TaskWorker(Worker):
    """Serves some queues on the running loop, on which the runtime lives too.

    Args:
        queues: the most important first. A `concurrency` limits its jobs that run here at once.
        concurrency: the same for all queues together.
        threads: the same for `def` tasks.
        free_threads: returns how many threads of the runtime are free, and not held for good.
        lease: the Redis lease: seconds after which a job comes due again whose worker is gone.
        look: sends all that waits, and returns whether it could send everything; for `burst`.
        burst: `main` returns when nothing waits.
    """

    def __init__(
        self,
        client: ArqRedis,
        queues: Sequence[QueueLimits],
        *,
        concurrency: int,
        threads: int,
        free_threads: Callable[[], int],
        lease: float,
        look: Callable[[], Awaitable[bool]],
        burst: bool = False,
    ) -> None:
        super().__init__(
            [func(execute, name=EXECUTE)],
            queue_name=queue_key(queues[0].name),
            redis_pool=client,
            burst=burst,
            handle_signals=False,
            max_jobs=concurrency,
            keep_result=0,
            health_check_interval=HEALTH_INTERVAL,
            health_check_key=health_key(queues[0].name),
            job_serializer=serialize,
            job_deserializer=deserialize,
        )
        self._queues = WorkerQueues(client, queues, lease=lease)
        self._held = HeldJobs(
            queues, concurrency=concurrency, threads=threads, free_threads=free_threads
        )
        self._renewals = lease / 3
        self._look = look
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._step_back = False
        self._backoff = Backoff(
            "This worker of arq gets no tasks", "What runs goes on; the worker tries again",
            log=logger, recovery="Redis answers again",
        )  # fmt: skip
        self._done = False
        self.dropped = 0

    # --- its life --------------------------------------------------------------------------------

    async def main(self) -> None:
        """Run until `finish`; with `burst`, until nothing waits. Goes on while Redis is away."""
        helpers = [self.loop.create_task(it) for it in (self._listen(), self._renew())]
        try:
            while not self._done:
                await self._poll_iteration()
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    def stop_picking(self) -> None:
        """Claim no more jobs; running ones go on."""
        self.allow_pick_jobs = False
        self._changed.set()

    async def finish(self, main: asyncio.Future[None]) -> None:
        """End `main` once the jobs here have ended, and remove those from Redis if it answers."""
        self.stop_picking()
        deadline = monotonic() + CLOSE_TIMEOUT
        while len(self._held) and (left := deadline - monotonic()) > 0:
            self._room.clear()
            await wait_for(self._room, left)
        self._done = True
        self._changed.set()
        await asyncio.wait([main], timeout=CLOSE_TIMEOUT)
        main.cancel()
        await self.close()

    async def close(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        for _, job_id in [*self._held]:  # their rows are handed back, or recovered
            self._over(job_id)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._exchange([0])
                await self._queues.forget_health()
        except Exception as error:  # noqa: BLE001 (any error of a client; the jobs come due again)
            logger.debug("Redis does not know of the end: %s", error)
        await self._queues.aclose()

    # --- claims ----------------------------------------------------------------------------------

    async def _poll_iteration(self) -> None:
        """Remove ended jobs from Redis, claim as many as have room, and wait for a change."""
        self._changed.clear()
        rooms = self._rooms()
        wait = CLAIM_INTERVAL * random.uniform(0.75, 1.25)  # noqa: S311 (no secret)
        claims = Claims()
        try:
            if self._held.over or any(rooms):
                claims = await self._exchange(rooms)
                wait = wait if claims.due_in < 0 else min(wait, claims.due_in)
            await self.heart_beat()
            if self._is_burst_over(claims, rooms) and await self._look():
                claims = await self._exchange(self._rooms())
                self._done = self._is_burst_over(claims, rooms)
        except Exception as error:  # noqa: BLE001 (any error of a client)
            await self._pause(self._backoff.failed(outage(error)))
            return
        self._backoff.recovered()
        if not self._done:
            await wait_for(self._changed, wait)

    def _is_burst_over(self, claims: Claims, rooms: Sequence[int]) -> bool:
        busy = claims.jobs or len(self._held) or self._held.over
        return self.burst and not busy and any(rooms)

    def _rooms(self) -> list[int]:
        rooms = self._held.rooms()
        return rooms if self.allow_pick_jobs else [0] * len(rooms)

    async def _exchange(self, rooms: Sequence[int]) -> Claims:
        """Remove ended jobs from Redis, and begin the claimed ones."""
        held = self._held
        over, held.over = held.over, []
        try:
            claims = await self._queues.exchange(
                over, rooms, room=held.room, threads=held.room_in_threads()
            )
        except BaseException:
            held.over += over
            raise
        for queue, job_id, payload in claims.jobs:
            self._begin(queue, job_id, payload, claims.now)
        if any(rooms):
            self._step_back = bool(claims.passed_over) and not claims.jobs
        return claims

    # --- jobs ------------------------------------------------------------------------------------

    def _begin(self, queue: int, job_id: str, payload: bytes, now: int) -> None:
        if job_id in self._held:  # its Redis lease had ended: this loop was blocked for longer
            return
        job = decoded(payload)
        if job is None or job[0] not in self.functions:
            self._drop(queue, job_id, payload)
            return
        self._held.begin(job_id, Job(queue, IN_THREAD in payload, job[1]))
        if not bring(job[1], partial(self._over, job_id), partial(self._freed, job_id)):
            self.tasks[job_id] = self.loop.create_task(self._run(job_id, job[1]))

    def _drop(self, queue: int, job_id: str, payload: bytes) -> None:
        # A job without a payload has expired; the ledger sends the row again.
        if payload:
            logger.warning("The job %.80r in Redis is none of ours; it is dropped", job_id)
        self.dropped += 1
        self._held.over.append((queue, job_id))
        self._changed.set()

    async def _run(self, job_id: str, execution_id: Any) -> None:
        """Run an attempt where `bring` can't: the runtime has yet to start."""
        failed = True
        try:
            await execute(self.ctx, execution_id)
            failed = False
        except Exception:
            logger.exception("The job %.80r could not be run", job_id)
        finally:
            del self.tasks[job_id]
            self._over(job_id, failed=failed)

    def _freed(self, job_id: str) -> None:
        """The body has ended: another may start while its outcome is stored."""
        self._held.free(job_id)
        self._changed.set()
        self._room.set()

    def _over(self, job_id: str, *, failed: bool = False) -> None:
        """The outcome is stored in the row, or the worker ends. The job is over in any case."""
        if job_id in self._held:
            self.jobs_failed += failed
            self.jobs_complete += not failed
            self._held.end(job_id)
            self._changed.set()
            self._room.set()

    # --- beside the claims -----------------------------------------------------------------------

    async def _listen(self) -> None:
        """Wait for wake-ups of queues with room here; one brings the next Redis claim at once."""
        while True:
            self._room.clear()
            numbers = [number for number, room in enumerate(self._rooms()) if room > 0]
            if not numbers:
                await self._room.wait()
                continue
            if self._step_back:
                await wait_for(self._room, STEP_BACK)
            try:
                found = await self._queues.wait(numbers, WAKE_UP_TIMEOUT)
            except Exception:  # noqa: BLE001 (the Redis claims log it)
                await asyncio.sleep(self._backoff.pause)
                continue
            if found:
                self._changed.set()

    async def _renew(self) -> None:
        """Renew the Redis leases of running jobs, so that none comes due for other workers."""
        while True:
            await asyncio.sleep(self._renewals)
            try:
                await self._queues.renew(self._held)
            except Exception as error:  # noqa: BLE001 (the row's holder has a lease of its own)
                logger.debug("Jobs could not be renewed: %s", error)

    async def record_health(self) -> None:
        """Store a line for `arq --check`, as arq does, for each queue."""
        now = monotonic()
        if self._last_health_check and now - self._last_health_check < HEALTH_INTERVAL:
            return
        counts = (
            f"{datetime.now(self.timezone):%b-%d %H:%M:%S} j_complete={self.jobs_complete}"
            f" j_failed={self.jobs_failed} j_retried=0 j_ongoing={len(self._held)}"
        )
        await self._queues.record_health(counts, seconds=2 * (HEALTH_INTERVAL + CLAIM_INTERVAL))
        self._last_health_check = now

    async def _pause(self, seconds: float) -> None:
        """Wait before Redis is tried again; jobs that end meanwhile do not shorten it."""
        deadline = monotonic() + seconds
        while not self._done and (left := deadline - monotonic()) > 0:
            self._changed.clear()
            await wait_for(self._changed, left)
