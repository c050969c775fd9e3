"""The keys and values in Redis. Pure.

They are arq's own, so that its tools read the queues: a sorted set of job ids by score, and a value
for each job. A job is one dispatch of an execution; it holds the id, and two words for readers.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from rail_async_tasks.ledger.dispatch_records import Dispatch

# The one function that jobs name.
EXECUTE: Final = "rail_async_tasks.execute"

JOB: Final = "arq:job:"
IN_PROGRESS: Final = "arq:in-progress:"
RETRY: Final = "arq:retry:"

# In the bytes of a job whose task is a `def`. Inside JSON's quotes no text can fake it.
IN_THREAD: Final = b'"kind":"def"'

# How far one priority is ahead of the next, in milliseconds: a job that waits a day goes first.
_AHEAD: Final = 86_400_000
_MOST: Final = 1000


def queue_key(queue: str) -> str:
    """Returns the key of the sorted set of a queue's jobs."""
    return f"arq:queue:{queue}"


def wake_key(queue: str) -> str:
    """Returns the key of the list that holds a token while its queue has jobs for a Redis claim."""
    return f"rail-async-tasks:wake:{queue}"


def health_key(queue: str) -> str:
    """Returns the key that `arq --check` looks for; a worker of the queue sets it for seconds."""
    return f"{queue_key(queue)}:health-check"


def job_id(dispatch: Dispatch) -> str:
    """Returns the job's id, another one for each dispatch: arq refuses one that it has seen."""
    return f"{dispatch.id}:{dispatch.number}"


def job_id_before(dispatch: Dispatch) -> str:
    """Returns the job's id of the dispatch that this one replaces; "" for the first."""
    return f"{dispatch.id}:{dispatch.number - 1}" if dispatch.number > 1 else ""


def ahead(priority: int) -> int:
    """Returns the milliseconds by which a score is below the time: the lowest starts first."""
    return (min(max(priority, -_MOST), _MOST) + _MOST) * _AHEAD


def encoded(dispatch: Dispatch, *, in_thread: bool, now: int) -> bytes:
    """Returns the job as arq stores it; `now` is in milliseconds since 1970."""
    return serialize(
        {
            "t": None,
            "f": EXECUTE,
            "a": [str(dispatch.id)],
            "k": {"task": dispatch.name, "kind": "def" if in_thread else "async def"},
            "et": now,
        }
    )


class _Job(msgspec.Struct):
    f: str
    a: list[Any]


_decoder = msgspec.json.Decoder(_Job)


def decoded(payload: bytes) -> tuple[str, Any] | None:
    """Returns the function that a job names, and its first argument; None for other values.

    Anyone with access to Redis may have written it: nothing but JSON is ever read.
    """
    try:
        job = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return (job.f, job.a[0]) if len(job.a) == 1 else None


def serialize(job: dict[str, Any]) -> bytes:
    """arq's `job_serializer` for these queues. JSON; never pickle."""
    return msgspec.json.encode(job)


def deserialize(payload: bytes) -> dict[str, Any]:
    """arq's `job_deserializer` for these queues."""
    job: dict[str, Any] = msgspec.json.decode(payload)
    return job
