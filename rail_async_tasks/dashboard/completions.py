"""What the filter offers while one types: states, queues, names of tasks, error classes."""

from __future__ import annotations

from typing import Final

from rail_async_tasks.conf import get_settings
from rail_async_tasks.dashboard.query import EXAMPLES
from rail_async_tasks.models import QueueState, TaskExecution, TaskRuntime
from rail_async_tasks.queue_limits import queue_limits
from rail_async_tasks.registry import registry
from rail_async_tasks.states import Status

# The newest failed tasks, whose error classes are offered.
RECENT_FAILURES: Final = 500
# Of one kind.
MOST: Final = 200


def completions(alias: str) -> list[str]:
    """Returns the qualifiers with each value that they may usefully have."""
    failed = TaskExecution.objects.using(alias).filter(status=Status.FAILED).order_by("-id")
    errors = set(failed.values_list("error_type", flat=True)[:RECENT_FAILURES]) - {None}
    queues = {it.name for it in queue_limits(get_settings(), registry)}
    queues |= set(QueueState.objects.using(alias).values_list("name", flat=True)[:MOST])
    live = TaskRuntime.objects.using(alias).filter(dead=False).values_list("names", flat=True)
    names = set(registry.names()).union(*live[:MOST])
    return [
        *_qualified("state", list(Status)),
        *_qualified("queue", sorted(queues)),
        *_qualified("name", sorted(names)),
        *_qualified("error", sorted(str(it) for it in errors)),
        *(EXAMPLES["age"], "age:>1d", "owner:", "parent:", "id:"),
    ]


def _qualified(key: str, values: list[str]) -> list[str]:
    return [f"{key}:{_quoted(value)}" for value in values[:MOST]]


def _quoted(value: str) -> str:
    return f'"{value}"' if any(it in value for it in ' ,"') else value
