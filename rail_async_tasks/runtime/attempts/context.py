"""The `info` of a body: `info.context.task`, `info.context.user`, `info.context.tenant_id`."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, overload
from uuid import UUID

from rail_async_tasks.access import find_user
from rail_async_tasks.errors import TaskCancelled
from rail_async_tasks.foreign_names import OF_CONTEXTS, OF_RUNNING_TASKS, missing
from rail_async_tasks.runtime.attempts.progress import check_percent
from rail_async_tasks.runtime.attempts.track import Loopable, Tracked, check_total

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

T = TypeVar("T")


class TaskContext:
    """The running task, as its body sees it. Usable from a coroutine and from a thread."""

    __slots__ = ("_end_requested", "_report", "attempt", "id", "name", "queue")

    def __init__(
        self,
        *,
        id: UUID,
        name: str,
        attempt: int,
        queue: str,
        report: Callable[[int, str | None], None] | None,
    ) -> None:
        self.id = id
        self.name = name
        self.attempt = attempt  # 1 for the first
        self.queue = queue
        self._report = report
        self._end_requested = False

    if not TYPE_CHECKING:  # type checkers know the attributes

        def __getattr__(self, name: str) -> Any:
            raise missing(self, name, OF_RUNNING_TASKS, "info.context.task")

    def update_progress(self, percent: float, message: str | None = None) -> None:
        """Reports to watchers how far the task is. Never blocks.

        Args:
            percent: 0 to 100; it may fall.
            message: what is being done, for people.

        Raises:
            ValueError: `percent` is no number from 0 to 100.
        """
        whole = check_percent(percent)
        if self._report is not None:
            self._report(whole, None if message is None else str(message))

    @overload
    def track(
        self, iterable: Loopable[T], total: int | None = None, message: str | None = None
    ) -> Tracked[T]: ...
    @overload
    def track(
        self, iterable: AsyncIterable[T], total: int | None = None, message: str | None = None
    ) -> AsyncIterator[T]: ...
    @overload
    def track(
        self, iterable: Iterable[T], total: int | None = None, message: str | None = None
    ) -> Iterator[T]: ...
    def track(self, iterable: Any, total: int | None = None, message: str | None = None) -> Any:
        """Yield the items and report progress as they are used up.

        Before each item `raise_if_cancelled()` is called: a `def` task ends at its next item.

        Args:
            iterable: anything to loop over with `for` or `async for`. A QuerySet takes both: `for`
                in a `def` task, `async for` in an `async def`.
            total: how many items there are. By default the `count()` of a QuerySet, the pages of a
                Paginator, and the `len()` of what has one. Without a total only the message is
                shown.
            message: shown beside the percentage.

        Raises:
            ValueError: `total` is no number from 0 up.
            TaskCancelled: at the next item, once the attempt has been asked to end.
        """
        if total is not None:
            check_total(total)
        return Tracked(
            iterable, total, lambda percent: self.update_progress(percent, message),
            self.raise_if_cancelled,
        )  # fmt: skip

    @property
    def cancel_requested(self) -> bool:
        """Returns whether this attempt was asked to end, for whatever reason.

        By a cancel, a timeout, a shutdown of its process, or a lost lease.
        """
        return self._end_requested

    def request_end(self) -> None:
        """For the runtime: sets `cancel_requested`, whatever the reason."""
        self._end_requested = True

    def raise_if_cancelled(self) -> None:
        """For `def` tasks, which nothing can interrupt: ends the attempt if that was asked for.

        Raises:
            TaskCancelled: it was.
        """
        if self._end_requested:
            raise TaskCancelled


class ExecutionContext:
    """`info.context`: the task, the owner as a loaded user or `AnonymousUser`, the tenant."""

    __slots__ = ("task", "tenant_id", "user")

    def __init__(
        self, task: TaskContext, user: AbstractBaseUser | AnonymousUser, tenant_id: str | None
    ) -> None:
        self.task = task
        self.user = user
        self.tenant_id = tenant_id

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise missing(self, name, OF_CONTEXTS, "info.context")


class TaskInfo:
    """The `info` of a body. No request is behind it: it has no headers, cookies or tokens."""

    __slots__ = ("context",)

    def __init__(self, context: ExecutionContext) -> None:
        self.context = context


def load_user(owner_id: str | None) -> AbstractBaseUser | AnonymousUser:
    """Return the owner, read anew; `AnonymousUser` where the id is no user's. Does I/O."""
    from django.contrib.auth.models import AnonymousUser

    try:
        user = None if owner_id is None else find_user(owner_id)
    except ValueError:  # an id of another kind, such as a service's name
        user = None
    return AnonymousUser() if user is None else user  # a model may have a `__len__`
