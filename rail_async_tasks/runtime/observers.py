"""Observers: logs, metrics and traces of what becomes of executions.

An app registers a factory when it is ready. The factory is called with the settings, and returns an
observer, or None where the settings ask for none. `announce.Announcer` calls all observers. An
observer's error is logged, and stops neither the task nor the other observers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias, runtime_checkable

from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.forks import after_fork
from rail_async_tasks.hooks import asks_to_end
from rail_async_tasks.runtime.made import made
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.snapshot import TaskSnapshot

logger = get_logger("rail_async_tasks.observers")


class Observer(Protocol):
    """Sees the executions that this process enqueues and runs.

    Called on the runtime's loop or, under the `sync` backend and from the service, in any thread:
    an observer must be quick and thread-safe. Every `started` is followed by one `ended` or one
    `dropped` of the same attempt, unless the process dies.
    """

    def enqueued(self, snapshot: TaskSnapshot) -> None:
        """A new execution is stored; `snapshot` is as it stood at its creation."""

    def started(self, snapshot: TaskSnapshot) -> None:
        """It was claimed here: `snapshot.attempts` is the number of the attempt."""

    def slow(self, snapshot: TaskSnapshot, seconds: float) -> None:
        """The attempt takes longer than `slow_task_threshold_seconds`; once for each attempt.

        Called when the threshold is passed or, where no timer runs (`sync`, a body that blocks the
        loop), at the attempt's end.
        """

    def ended(self, snapshot: TaskSnapshot, seconds: float | None, traceback: str | None) -> None:
        """The attempt's outcome is stored: the status is `retrying` or a final one.

        `seconds` is how long the body took; None for an execution that has come to its end without
        an attempt here: cancelled while it waited, lost with another process, of a name that
        no process knows. `traceback` is that of the body's exception.
        """

    def dropped(self, snapshot: TaskSnapshot, seconds: float) -> None:
        """The attempt's outcome was not stored: the execution was ended or taken elsewhere.

        `snapshot` is as this attempt knew it, still running.
        """


@runtime_checkable
class SeesLosses(Protocol):
    """What an observer may have as well."""

    def lost(self, snapshot: TaskSnapshot) -> None:
        """An attempt was lost with its process, and this process has recovered the execution.

        `snapshot` is as it stands now: it waits for its next attempt, or has failed for good. Then
        `ended` is called too.
        """


Factory: TypeAlias = Callable[[TaskSettings], Observer | None]


class Observers:
    """All observers that the settings ask for. With none, each call costs an empty loop."""

    __slots__ = ("_all", "_losses")

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._all = tuple(observers)
        self._losses = tuple(it for it in self._all if isinstance(it, SeesLosses))

    def enqueued(self, snapshot: TaskSnapshot) -> None:
        for observer in self._all:
            try:
                observer.enqueued(snapshot)
            except BaseException as error:
                _complain(observer, "enqueued", error)

    def started(self, snapshot: TaskSnapshot) -> None:
        for observer in self._all:
            try:
                observer.started(snapshot)
            except BaseException as error:
                _complain(observer, "started", error)

    def slow(self, snapshot: TaskSnapshot, seconds: float) -> None:
        for observer in self._all:
            try:
                observer.slow(snapshot, seconds)
            except BaseException as error:
                _complain(observer, "slow", error)

    def ended(self, snapshot: TaskSnapshot, seconds: float | None, traceback: str | None) -> None:
        for observer in self._all:
            try:
                observer.ended(snapshot, seconds, traceback)
            except BaseException as error:
                _complain(observer, "ended", error)

    def dropped(self, snapshot: TaskSnapshot, seconds: float) -> None:
        for observer in self._all:
            try:
                observer.dropped(snapshot, seconds)
            except BaseException as error:
                _complain(observer, "dropped", error)

    def lost(self, snapshot: TaskSnapshot) -> None:
        for observer in self._losses:
            try:
                observer.lost(snapshot)
            except BaseException as error:
                _complain(observer, "lost", error)


def _complain(observer: Observer, event: str, error: BaseException) -> None:
    """Log what an observer has raised; it must end neither the loop nor the attempt."""
    if asks_to_end(error):
        raise error
    logger.error("%s: %s() failed", type(observer).__name__, event, exc_info=error)


# In the order in which they were registered.
_factories: dict[Factory, None] = {}
_known: tuple[TaskSettings, Observers] | None = None


def register(factory: Factory) -> None:
    """Has `factory` asked for an observer, from the next runtime on. Twice is once."""
    global _known
    _factories[factory] = None
    _known = None


def observers_for(settings: TaskSettings) -> Observers:
    """The observers that these settings ask for; the same object for the same settings.

    Raises:
        ConfigurationError: one of them can't be had, for example for want of a package.
    """
    global _known
    known = _known
    if known is not None and known[0] is settings:
        return known[1]
    asked = [made(factory, settings) for factory in _factories]
    observers = Observers(observer for observer in asked if observer is not None)
    _known = (settings, observers)
    return observers


def _forget() -> None:
    """A forked child must not share what its parent counts with, nor the parent's locks."""
    global _known
    _known = None


after_fork(_forget)
