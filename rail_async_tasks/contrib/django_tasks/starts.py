"""One start of a Django task: the row to store, and the result to return."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from rail_async_tasks.contrib.django_tasks import library
from rail_async_tasks.contrib.django_tasks.json_form import as_json
from rail_async_tasks.contrib.django_tasks.owner import owner_and_tenant
from rail_async_tasks.contrib.django_tasks.results import Arguments, fill, new_result
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.snapshot import TaskSnapshot

if TYPE_CHECKING:
    from rail_async_tasks.ledger.records import NewExecution
    from rail_async_tasks.service import EnqueueOptions

# The start whose task runs before it returns, under the `sync` backend.
_inline: contextvars.ContextVar[Start | None] = contextvars.ContextVar(
    "rail_django_task_start", default=None
)


class Start:
    """What `enqueue()` has been asked for. Nothing is stored yet.

    Raises:
        TypeError: an argument has no JSON form.
        ValueError: bytes that are not UTF-8.
        InvalidArguments, TasksDisabled, ConfigurationError: as `service.enqueue`.
    """

    def __init__(
        self,
        task: library.Task,
        definition: TaskDefinition,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> None:
        from rail_async_tasks.service.request import (
            EnqueueOptions,
            enabled_settings,
            new_execution,
        )

        run_after, delay = _run_after(task.run_after)
        arguments = Arguments(
            args=as_json(list(args)),
            kwargs=as_json(kwargs),
            backend=task.backend,
            run_after=None if run_after is None else run_after.isoformat(),
        )
        self.result = new_result(task, arguments)
        self.announced = False
        self.settings = enabled_settings()
        owner_id, tenant_id = owner_and_tenant()
        self.options: EnqueueOptions = EnqueueOptions(
            priority=int(task.priority),
            run_after=run_after if delay is None else None,
            delay=delay,
            owner_id=owner_id,
            tenant_id=tenant_id,
        )
        encoded = definition.encode(arguments.as_dict())
        new = new_execution(definition, encoded, self.options, self.settings)
        # QUEUES has allowed the queue, which the setting `queues` need not name.
        self.new: NewExecution = msgspec.structs.replace(
            new,
            queue=task.queue_name,
            max_retries=options["max_retries"],
            rerun_on_crash=options.get("rerun_on_crash", True),
        )

    @contextmanager
    def storing(self, *, inline: bool) -> Iterator[None]:
        """Surrounds the storing. Inline, the observer announces the start before the body runs."""
        token = _inline.set(self if inline else None)
        try:
            yield
        finally:
            _inline.reset(token)

    def stored(self, snapshot: TaskSnapshot) -> bool:
        """Fills the result; returns whether the start is still to be announced."""
        fill(self.result, snapshot, None)
        before, self.announced = self.announced, True
        return not before


def _run_after(
    given: datetime | timedelta | None,
) -> tuple[datetime | None, timedelta | None]:
    """Returns the time before which the task must not run, and the delay where that was given."""
    if isinstance(given, timedelta):
        return datetime.now(UTC) + given, given
    return given, None


def take_inline(new_id: Any) -> Start | None:
    """Returns the start of this execution, if its `enqueue()` is waiting for the body to run."""
    start = _inline.get()
    return start if start is not None and start.new.id == new_id else None
