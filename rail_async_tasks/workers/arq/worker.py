"""arq's worker, for queues of ids: it claims many in one call, and is told when there are some.

It keeps arq's keys, so that arq's tools read what goes on, and little else of how arq works. A job
is an id: the row decides whether it runs, how often and for how long, and it has its outcome. So
nothing is lost with a job, and a job that comes twice does no harm.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from time import monotonic
from typing import Any, Final

import msgspec

from rail_async_tasks.backends.arq.errors import brief, is_refusal
from rail_async_tasks.backends.arq.keys import (
    EXECUTE,
    IN_PROGRESS,
    IN_THREAD,
    JOB,
    RETRY,
    decoded,
    deserialize,
    health_key,
    queue_key,
    serialize,
    wake_key,
)
from rail_async_tasks.backends.arq.library import ArqRedis, Worker, func
from rail_async_tasks.backends.arq.scripts import CLAIM, RENEW
from rail_async_tasks.backoff import Backoff
from rail_async_tasks.queue_limits import QueueLimits
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.workers.delivery import adeliver

logger = get_logger("rail_async_tasks.backends")

# All in seconds. Looked for jobs at least so often, should the word that there are some be lost.
LOOK_EVERY: Final = 5.0
# One wait for that word; shorter than what the client waits for an answer.
LISTEN: Final = 2.0
# Who has jobs left over that no thread is free for lets others hear of them first.
STEP_BACK: Final = 0.25
HEALTH_EVERY: Final = 10.0
# What the last words to Redis get at the end.
LAST_WORDS: Final = 1.0


async def execute(ctx: dict[str, Any], execution_id: Any, **words: Any) -> None:
    """The function of every job. `words` are for whoever reads the queue."""
    await adeliver(execution_id)


class _Held(msgspec.Struct, frozen=True):
    """A job that runs here: where it is from, and whether it takes a thread."""

    queue: int
    in_thread: bool
    execution_id: Any


class TaskWorker(Worker):
    """Serves some queues on the running loop, on which the runtime lives too.

    Args:
        queues: what matters most first. A `concurrency` is how many of it run here at once.
        concurrency: all together.
        threads: how many `def` tasks at once.
        free_threads: of those, how many have a thread left that they don't hold for good.
        lease: seconds after which a job comes due again whose worker is no more.
        look: sends all that waits, and says whether nothing was in the way; for `burst`.
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
            health_check_interval=HEALTH_EVERY,
            health_check_key=health_key(queues[0].name),
            job_serializer=serialize,
            job_deserializer=deserialize,
        )
        self._redis: Any = client
        self._queues = list(queues)
        self._queue_keys = [queue_key(queue.name) for queue in queues]
        self._wake_keys = [wake_key(queue.name) for queue in queues]
        self._threads = threads
        self._free_threads = free_threads
        self._lease = int(lease * 1000)
        self._look = look
        self._held: dict[str, _Held] = {}
        self._running: Counter[int] = Counter()
        self._over: list[tuple[int, str]] = []  # ended here, but not yet in Redis
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
        """Runs until `finish`; with `burst`, until nothing waits. An outage of Redis is no end."""
        helpers = [self.loop.create_task(it) for it in (self._listen(), self._renew())]
        try:
            while not self._done:
                await self._poll_iteration()
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    def stop_picking(self) -> None:
        """Claims nothing any more; what runs goes on."""
        self.allow_pick_jobs = False
        self._changed.set()

    async def finish(self, main: asyncio.Future[None]) -> None:
        """Ends `main` once what ran here has ended, which is told to Redis if it can be."""
        self.stop_picking()
        if self.tasks:
            await asyncio.wait(self.tasks.values(), timeout=LAST_WORDS)
        self._done = True
        self._changed.set()
        await asyncio.wait([main], timeout=LAST_WORDS)
        main.cancel()
        await self.close()

    async def close(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        try:
            async with asyncio.timeout(LAST_WORDS):
                await self._exchange([0] * len(self._queues))
                await self._redis.delete(*(health_key(queue.name) for queue in self._queues))
        except Exception as error:  # noqa: BLE001 (whatever a client raises; it comes due again)
            logger.debug("Redis was not told of the end: %s", error)
        await self._redis.aclose()

    # --- claims ----------------------------------------------------------------------------------

    async def _poll_iteration(self) -> None:
        """Tells Redis what has ended, claims what there is room for, and waits for a change."""
        self._changed.clear()
        room = self._rooms()
        wait, claimed = LOOK_EVERY * random.uniform(0.75, 1.25), 0  # noqa: S311 (no secret)
        try:
            if self._over or any(room):
                claimed, due_in = await self._exchange(room)
                wait = wait if due_in < 0 else min(wait, due_in)
            await self.heart_beat()
            if self._is_burst_over(claimed, room) and await self._look():
                claimed, _ = await self._exchange(self._rooms())
                self._done = self._is_burst_over(claimed, room)
        except Exception as error:  # noqa: BLE001 (whatever a client raises)
            await self._pause(self._backoff.failed(_outage(error)))
            return
        self._backoff.recovered()
        if not self._done:
            await _wait_for(self._changed, wait)

    def _is_burst_over(self, claimed: int, room: Sequence[int]) -> bool:
        return self.burst and not claimed and not self.tasks and not self._over and any(room)

    def _rooms(self) -> list[int]:
        """How many more of each queue may start."""
        left = self.max_jobs - len(self._held) if self.allow_pick_jobs else 0
        return [
            left if queue.concurrency is None else min(left, queue.concurrency - self._running[it])
            for it, queue in enumerate(self._queues)
        ]

    async def _exchange(self, room: Sequence[int]) -> tuple[int, float]:
        """How many were claimed, and in how many seconds more come due; less than 0: never."""
        over, self._over = self._over, []
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                self._tell(pipe, over)
                if any(room):
                    total = self.max_jobs - len(self._held)
                    pipe.eval(
                        CLAIM, 2 * len(room), *self._queue_keys, *self._wake_keys,
                        self._lease, total, self._threads_free(), *room,
                    )  # fmt: skip
                answers: list[Any] = await pipe.execute()
        except BaseException:
            self._over += over
            raise
        if not any(room):
            return 0, -1.0
        now, due_in, passed_over, *claimed = answers[-1]
        jobs = list(zip(*[iter(claimed)] * 3, strict=True))
        for number, job_id, payload in jobs:
            self._begin(number - 1, job_id, payload, now)
        self._step_back = bool(passed_over) and not jobs
        return len(jobs), due_in / 1000

    def _tell(self, pipe: Any, over: Sequence[tuple[int, str]]) -> None:
        for number, key in enumerate(self._queue_keys):
            ids = [job_id for queue, job_id in over if queue == number]
            if ids:
                pipe.zrem(key, *map(_raw, ids))
                pipe.unlink(*(_raw(kind + it) for it in ids for kind in (JOB, IN_PROGRESS, RETRY)))

    def _threads_free(self) -> int:
        mine = self._threads - sum(1 for held in self._held.values() if held.in_thread)
        return min(mine, self._free_threads())

    # --- jobs ------------------------------------------------------------------------------------

    def _begin(self, queue: int, name: bytes, payload: bytes, now: int) -> None:
        job_id = name.decode(errors="surrogateescape")
        if job_id in self._held:  # its lease had ended: this loop was blocked for longer
            return
        job = decoded(payload)
        if job is None or job[0] not in self.functions:
            self._drop(queue, job_id, payload)
            return
        self._held[job_id] = _Held(queue, IN_THREAD in payload, job[1])
        self._running[queue] += 1
        self.tasks[job_id] = self.loop.create_task(self.run_job(job_id, now))

    def _drop(self, queue: int, job_id: str, payload: bytes) -> None:
        # What has expired was sent long ago; the row knows, and is sent again.
        if payload:
            logger.warning("The job %.80r in Redis is none of ours; it is dropped", job_id)
        self.dropped += 1
        self._over.append((queue, job_id))
        self._changed.set()

    async def run_job(self, job_id: str, score: int) -> None:
        """Runs an attempt. Its outcome is the row's; the job is over in any case."""
        held = self._held[job_id]
        try:
            await execute(self.ctx, held.execution_id)
            self.jobs_complete += 1
        except Exception:
            logger.exception("What the job %.80r brought could not be run", job_id)
            self.jobs_failed += 1
        finally:
            del self._held[job_id], self.tasks[job_id]
            self._running[held.queue] -= 1
            self._over.append((held.queue, job_id))
            self._changed.set()
            self._room.set()

    # --- beside the claims -----------------------------------------------------------------------

    async def _listen(self) -> None:
        """Waits for tokens where there is room; one makes the next claim come at once."""
        while True:
            self._room.clear()
            rooms = zip(self._wake_keys, self._rooms(), strict=True)
            keys = [key for key, room in rooms if room > 0]
            if not keys:
                await self._room.wait()
                continue
            if self._step_back:
                await _wait_for(self._room, STEP_BACK)
            try:
                found = await self._redis.blpop(keys, timeout=LISTEN)
            except Exception:  # noqa: BLE001 (the claims tell of it)
                await asyncio.sleep(self._backoff.pause)
                continue
            if found:
                self._changed.set()

    async def _renew(self) -> None:
        """What runs here does not come due for others."""
        while True:
            await asyncio.sleep(self._lease / 3000)
            held = [word for it, job in self._held.items() for word in (job.queue + 1, _raw(it))]
            if held:
                try:
                    await self._redis.eval(
                        RENEW, len(self._queue_keys), *self._queue_keys, self._lease, *held
                    )
                except Exception as error:  # noqa: BLE001 (the row has a lease of its own)
                    logger.debug("Jobs could not be renewed: %s", error)

    async def record_health(self) -> None:
        """As arq does it, for each queue."""
        now = monotonic()
        if self._last_health_check and now - self._last_health_check < HEALTH_EVERY:
            return
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in self._queue_keys:
                pipe.zcard(key)
            queued = await pipe.execute()
            for queue, count in zip(self._queues, queued, strict=True):
                info = (
                    f"{datetime.now(self.timezone):%b-%d %H:%M:%S} j_complete={self.jobs_complete}"
                    f" j_failed={self.jobs_failed} j_retried=0 j_ongoing={len(self._held)}"
                    f" queued={count}"
                )
                pipe.set(health_key(queue.name), info, px=int((HEALTH_EVERY + LOOK_EVERY) * 2000))
            await pipe.execute()
        self._last_health_check = now

    async def _pause(self, seconds: float) -> None:
        """Until Redis is tried again; what ends meanwhile does not make it sooner."""
        deadline = monotonic() + seconds
        while not self._done and (left := deadline - monotonic()) > 0:
            self._changed.clear()
            await _wait_for(self._changed, left)


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _raw(job_id: str) -> bytes:
    """Whatever bytes it was."""
    return job_id.encode(errors="surrogateescape")


def _outage(error: Exception) -> str:
    """Returns the failure in words."""
    problem = "refuses a command" if is_refusal(error) else "does not answer"
    return f"Redis {problem}: {brief(error)}"
