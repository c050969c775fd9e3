"""arq without us: the worker and the function that stand beside ours."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from arq.connections import RedisSettings

QUEUE = "bare"
# By default arq writes two lines for each job, which would cost it a third of its speed.
LOGGING = {"version": 1, "disable_existing_loggers": True}


def dumps(value: dict[str, Any]) -> bytes:
    return json.dumps(value, default=repr).encode()


def loads(data: bytes) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(data)
    return loaded


async def return_the_start(ctx: dict[str, Any]) -> float:
    """When it began, by the machine's clock."""
    return time.monotonic()


class WorkerSettings:
    """The settings that `python -m arq` reads: of this very class, not of one above it."""

    functions = (return_the_start,)
    redis_settings = RedisSettings.from_dsn(os.environ.get("BENCHMARK_REDIS", "redis://localhost"))
    queue_name = QUEUE
    job_serializer = staticmethod(dumps)
    job_deserializer = staticmethod(loads)
    keep_result = 60
    max_jobs = 100
    poll_delay = 0.02
