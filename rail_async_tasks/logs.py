"""Log fields: which task a line was logged in. For the project's `LOGGING` and for structlog.

The fields are those of the attempt in whose context the call is made: in the body, in the thread of
a `def` body, in asyncio tasks and threads that the body starts with its context (`create_task`,
`asyncio.to_thread`, `sync_to_async`). Any logger will do.
"""

from __future__ import annotations

import contextvars
import logging
from collections.abc import MutableMapping
from typing import Any, Final

from rail_async_tasks.snapshot import TaskSnapshot

FIELDS: Final = ("task_id", "task_name", "attempt", "queue", "owner_id", "trace_id")

# The claim of the attempt, and the id of its trace.
_current: contextvars.ContextVar[tuple[TaskSnapshot, str | None] | None] = contextvars.ContextVar(
    "rail_log_fields", default=None
)

enter: Final = _current.set
leave: Final = _current.reset


def trace_id_of(traceparent: str | None) -> str | None:
    """Returns the id in a row's trace context: 32 hex digits."""
    return None if traceparent is None else traceparent[3:35]


def task_fields() -> dict[str, Any]:
    """Returns the fields of the task that this call is made in; an empty dict outside of tasks.

    All values are strings but `attempt`, an int from 1. `owner_id` and `trace_id` (32 hex digits)
    are None where there is none.
    """
    current = _current.get()
    if current is None:
        return {}
    snapshot, trace_id = current
    values = (
        str(snapshot.id), snapshot.name, snapshot.attempts, snapshot.queue, snapshot.owner_id,
        trace_id,
    )  # fmt: skip
    return dict(zip(FIELDS, values, strict=True))


class TaskFields(logging.Filter):
    """Sets the fields as attributes of each record. Lets every record pass.

    Belongs on a handler, where it sees the records of all loggers; before a `QueueHandler` on that
    one. Fields that a record has already stay. Outside of tasks they are None, so that a format may
    name them.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        found, given = task_fields(), record.__dict__
        for name in FIELDS:
            if given.get(name) is None:
                given[name] = found.get(name)
        return True


def add_task_fields(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Adds the fields that the event lacks. A processor of structlog; needs no structlog itself."""
    for name, value in task_fields().items():
        if value is not None:
            event.setdefault(name, value)
    return event
