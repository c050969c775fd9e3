"""The port of tracing: spans of starts and of attempts. Knows no tracing library.

An app registers a factory when it is ready, as for `observers`. Where the settings ask for no
tracer, a start and an attempt cost one comparison with None each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias

from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.forks import after_fork
from rail_async_tasks.ledger.records import Claimed, NewExecution
from rail_async_tasks.snapshot import TaskSnapshot


class Sending(Protocol):
    """One start, or several at once, while they are stored."""

    news: Sequence[NewExecution]
    """The executions, with the trace context to be stored."""

    def stored(self, snapshot: TaskSnapshot) -> None:
        """Names what was stored for a single start: perhaps one that has its unique key."""

    def discard(self) -> None:
        """Forgets the span: nothing was stored."""


class AttemptSpan(Protocol):
    """The span of one attempt. On the runtime's loop or, under `sync`, in the caller's thread."""

    trace_id: str | None
    """32 hex digits; None where nothing records it."""

    def activate(self) -> Callable[[], None]:
        """Makes it the current span of the current context; the returned call undoes that."""

    def body_ended(self) -> None:
        """Notes the time at which the body ended."""

    def settled(self, snapshot: TaskSnapshot, cause: BaseException | None) -> None:
        """Ends it: the outcome is stored. `cause` is the exception that the attempt failed by."""

    def dropped(self) -> None:
        """Ends it: the outcome was not stored."""


class Tracer(Protocol):
    """Opens spans. From any thread. Its methods do not raise for want of a tracing library."""

    def sending(self, news: Sequence[NewExecution]) -> AbstractContextManager[Sending]:
        """Opens the span of a start of one task, current within the block."""

    def attempt(self, claimed: Claimed, definition: TaskDefinition) -> AttemptSpan:
        """Opens the span of an attempt, in the trace of its start."""


Factory: TypeAlias = Callable[[TaskSettings], Tracer | None]

_factory: Factory | None = None
_known: tuple[TaskSettings, Tracer | None] | None = None


def register(factory: Factory) -> None:
    """Has `factory` asked for the tracer, in place of an earlier one."""
    global _factory, _known
    _factory, _known = factory, None


def tracer_for(settings: TaskSettings) -> Tracer | None:
    """Returns the tracer that the settings ask for; the same object for the same settings.

    Raises:
        ConfigurationError: it can't be had, for example for want of a package.
    """
    global _known
    known = _known
    if known is not None and known[0] is settings:
        return known[1]
    tracer = None if _factory is None else _factory(settings)
    _known = (settings, tracer)
    return tracer


def _forget() -> None:
    """A forked child has a tracer of its own."""
    global _known
    _known = None


after_fork(_forget)
