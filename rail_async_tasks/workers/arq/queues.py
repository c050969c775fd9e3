"""The queues of one worker in Redis: Redis claims and leases, ends, wake-ups and health.

Written under arq's keys, so that arq's tools read what goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from rail_async_tasks.backends.arq.keys import (
    IN_PROGRESS,
    JOB,
    RETRY,
    health_key,
    queue_key,
    wake_key,
)
from rail_async_tasks.backends.arq.library import ArqRedis
from rail_async_tasks.backends.arq.scripts import CLAIM, COUNT, REMOVE, RENEW
from rail_async_tasks.queue_limits import QueueLimits
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.backends")


class Claims(msgspec.Struct, frozen=True):
    """The answer to a Redis claim.

    Attributes:
        now: Redis's clock, in milliseconds.
        due_in: seconds until more jobs come due; less than 0 for never.
        passed_over: how many were left because no thread was free.
        jobs: the number of the queue, the id and the payload of each claimed job.
    """

    now: int = 0
    due_in: float = -1.0
    passed_over: int = 0
    jobs: Sequence[tuple[int, str, bytes]] = ()


class WorkerQueues:
    """Redis's side of the queues that a worker serves, the most important first.

    Args:
        lease: the Redis lease: seconds after which a claimed job comes due again unless renewed.
    """

    def __init__(self, client: ArqRedis, queues: Sequence[QueueLimits], *, lease: float) -> None:
        self._redis: Any = client
        self._names = [queue.name for queue in queues]
        self._keys = [queue_key(name) for name in self._names]
        self._wake_keys = [wake_key(name) for name in self._names]
        self._lease = int(lease * 1000)

    async def exchange(
        self, over: Sequence[tuple[int, str]], rooms: Sequence[int], *, room: int, threads: int
    ) -> Claims:
        """Remove jobs that have ended, and claim others, in one round trip.

        Args:
            over: the jobs that have ended: the numbers of their queues, and their ids.
            rooms: how many to claim of each queue at most; without any, none is claimed.
            room: how many to claim together.
            threads: how many of them may take a thread.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            for number, key in enumerate(self._keys):
                ids = [job_id for queue, job_id in over if queue == number]
                if ids:
                    pipe.eval(REMOVE, 1, key, *map(_raw, ids))
                    kinds = (JOB, IN_PROGRESS, RETRY)
                    pipe.unlink(*(_raw(kind + job_id) for job_id in ids for kind in kinds))
            if any(rooms):
                pipe.eval(
                    CLAIM, 2 * len(rooms), *self._keys, *self._wake_keys,
                    self._lease, room, threads, *rooms,
                )  # fmt: skip
            answers: list[Any] = await pipe.execute()
        if not any(rooms):
            return Claims()
        now, due_in, passed_over, *claimed = answers[-1]
        jobs = [
            (number - 1, job_id.decode(errors="surrogateescape"), payload)
            for number, job_id, payload in zip(*[iter(claimed)] * 3, strict=True)
        ]
        return Claims(now, due_in / 1000, passed_over, jobs)

    async def renew(self, held: Iterable[tuple[int, str]]) -> None:
        """Renew the Redis leases of jobs that run here: the numbers of their queues, and ids."""
        words = [word for queue, job_id in held for word in (queue + 1, _raw(job_id))]
        if words:
            await self._redis.eval(RENEW, len(self._keys), *self._keys, self._lease, *words)

    async def wait(self, numbers: Iterable[int], seconds: float) -> bool:
        """Wait until one of these queues has jobs. Returns whether one has."""
        keys = [self._wake_keys[number] for number in numbers]
        try:
            return await self._redis.blpop(keys, timeout=seconds) is not None
        except Exception as error:
            if "WRONGTYPE" not in str(error):
                raise
            right = [key for key in keys if await self._redis.type(key) in (b"list", b"none")]
            if not right:
                raise
            return await self._redis.blpop(right, timeout=seconds) is not None

    async def record_health(self, counts: str, *, seconds: float) -> None:
        """Store a line for `arq --check` for each queue. It expires after that many seconds."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in self._keys:
                pipe.eval(COUNT, 1, key)
            for name, queued in zip(self._names, await pipe.execute(), strict=True):
                if queued < 0:
                    logger.error(
                        "The queue %s is not served: its key %s in Redis is no sorted set. Delete"
                        " the key.",
                        name, queue_key(name),
                    )  # fmt: skip
                pipe.set(health_key(name), f"{counts} queued={queued}", px=int(seconds * 1000))
            await pipe.execute()

    async def forget_health(self) -> None:
        """Remove these lines: this worker ends."""
        await self._redis.delete(*map(health_key, self._names))

    async def aclose(self) -> None:
        await self._redis.aclose()


def _raw(job_id: str) -> bytes:
    """Returns the bytes that Redis has, whichever they were."""
    return job_id.encode(errors="surrogateescape")
