"""`RailTasks`: the fixture `rail_tasks`, and `self.tasks` of Django's test cases."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from asgiref.sync import sync_to_async

from rail_async_tasks.conf import get_settings
from rail_async_tasks.hosting import process
from rail_async_tasks.hosting.held import Held
from rail_async_tasks.ids import new_id
from rail_async_tasks.registry import registry
from rail_async_tasks.service.request import EnqueueOptions, new_execution
from rail_async_tasks.testing.attempts import run_due
from rail_async_tasks.testing.bodies import TaskRun, arun_task, run_task
from rail_async_tasks.testing.clock import Clock, as_timedelta
from rail_async_tasks.testing.connections import Connections, call_here
from rail_async_tasks.testing.handles import (
    Done,
    EnqueuedTask,
    as_enqueued,
    definition_of,
    has_arguments,
)
from rail_async_tasks.testing.rows import rows_of
from rail_async_tasks.testing.subscriptions import subscribe

T = TypeVar("T")


class RailTasks:
    """The tasks of one test. Nothing that the test enqueues runs before `run()`.

    Every method is a plain call, in coroutine tests too: there the event loop waits for it. `arun`
    and `arun_task` run bodies on the test's own loop.
    """

    def __init__(self, held: Held, connections: Connections) -> None:
        self._held = held
        self._connections = connections
        self._start = new_id()
        self._clock = Clock()

    # --- what was enqueued -----------------------------------------------------------------------

    def enqueued(self, task: Any = None) -> Done[EnqueuedTask]:
        """Returns what was enqueued in this test, oldest first; of one task if it is given."""
        name = None if task is None else definition_of(task).name
        return self._here(lambda: self._enqueued(name))

    def assert_enqueued(self, task: Any, **arguments: Any) -> EnqueuedTask:
        """Asserts that the task was enqueued with these arguments; returns the last such start.

        The arguments may be a part of all. One that was left out has the function's default.

        Raises:
            AssertionError: it lists what was enqueued.
            TypeError: the task takes no such argument.
        """
        found = self._find(task, arguments)
        if not found:
            raise AssertionError(f"{_wanted(task, arguments)} was not enqueued. {self._listing()}")
        return found[-1]

    def assert_not_enqueued(self, task: Any = None, **arguments: Any) -> None:
        """Asserts that nothing was enqueued; of one task, or with these arguments, if given."""
        if task is None and not arguments:
            if self.enqueued():
                raise AssertionError(f"Nothing was to be enqueued. {self._listing()}")
        elif self._find(task, arguments):
            raise AssertionError(
                f"{_wanted(task, arguments)} was not to be enqueued. {self._listing()}"
            )

    # --- running it ------------------------------------------------------------------------------

    def run(self, task: Any = None) -> Done[EnqueuedTask]:
        """Runs what is due, and what becomes due by that; of one task if it is given.

        The bodies run one after the other, oldest first, in the test's own transaction. A delay or
        a retry is due when `advance()` has come to its time. Returns the handles of what ran; the
        exception of a body is the handle's `__cause__`, and that of `TaskFailed` in `result()`.
        """
        names = self._names(task)
        return self._here(lambda: self._run(names))

    async def arun(self, task: Any = None) -> Done[EnqueuedTask]:
        """`run()` with `async def` bodies on the running loop, which goes on meanwhile."""
        names = self._names(task)
        return await sync_to_async(self._run)(names)

    def advance(self, seconds: float | timedelta) -> None:
        """Moves the clock of delays, retries, schedules and expiry; starts nothing but ticks.

        Each tick of a task with `cron` that is passed enqueues the task. The clock of the schedules
        begins at midnight of Monday, 1 January 2024, and stands still otherwise.
        """
        by = as_timedelta(seconds)
        self._here(lambda: self._advance(by))

    # --- one body, one subscription --------------------------------------------------------------

    def run_task(self, task: Any, user: Any = None, **arguments: Any) -> TaskRun:
        """See `testing.run_task`."""
        return run_task(task, user, **arguments)

    async def arun_task(self, task: Any, user: Any = None, **arguments: Any) -> TaskRun:
        """See `testing.arun_task`."""
        return await arun_task(task, user, **arguments)

    def subscribe(
        self,
        document: str,
        variables: Mapping[str, Any] | None = None,
        user: Any = None,
        **options: Any,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """See `testing.subscribe`."""
        return subscribe(document, variables, user, **options)

    # --- in the thread of the test's connections -------------------------------------------------

    def _here(self, call: Callable[[], T]) -> T:
        return call_here(call, self._connections)

    def _enqueued(self, name: str | None) -> Done[EnqueuedTask]:
        ledger = process.ledger()
        return Done(
            as_enqueued(snapshot, ledger.arguments(snapshot.id))
            for snapshot in rows_of(ledger).since(self._start)
            if name in (None, snapshot.name)
        )

    def _run(self, names: frozenset[str]) -> Done[EnqueuedTask]:
        ledger = process.ledger()
        ran = run_due(self._held, names)
        found = {snapshot.id: snapshot for snapshot in ledger.get_many(ran)}
        return Done(as_enqueued(found[it], ledger.arguments(it)) for it in ran if it in found)

    def _advance(self, by: timedelta) -> None:
        rows_of(process.ledger()).advance(by)
        for definition in self._clock.advance(by):
            options = EnqueueOptions(actor="cron")
            new = new_execution(definition, definition.encode({}), options, get_settings())
            self._held.submit(new)

    def _find(self, task: Any, arguments: Mapping[str, Any]) -> list[EnqueuedTask]:
        definition = definition_of(task)
        return [it for it in self.enqueued(task) if has_arguments(it, definition, arguments)]

    def _names(self, task: Any) -> frozenset[str]:
        return registry.names() if task is None else frozenset({definition_of(task).name})

    def _listing(self) -> str:
        found = self.enqueued()
        if not found:
            return "Nothing was enqueued in this test."
        lines = (f"  {number}. {it!r}" for number, it in enumerate(found, 1))
        return "\n".join(("Enqueued in this test:", *lines))


def _wanted(task: Any, arguments: Mapping[str, Any]) -> str:
    given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return f"{definition_of(task).name}({given})" if given else definition_of(task).name
