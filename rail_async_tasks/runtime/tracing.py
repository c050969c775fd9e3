"""The port of tracing: spans of starts and of attempts. Knows no tracing library.

An app registers a factory when it is ready, as for `observers`. Where the settings ask for no
tracer, a start and an attempt cost one comparison with None each.

Span processors, samplers and providers are the project's code. `SafeTracer` surrounds every call of
a tracer: an error is logged, and the start or the attempt goes on without its span.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol, Self, TypeAlias, TypeVar

from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.forks import after_fork
from rail_async_tasks.hooks import asks_to_end
from rail_async_tasks.ledger.records import Claimed, NewExecution
from rail_async_tasks.runtime.made import made
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.snapshot import TaskSnapshot

logger = get_logger("rail_async_tasks.tracing")

T = TypeVar("T")


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
    """Opens spans. From any thread. The methods may raise: `SafeTracer` calls them."""

    def sending(self, news: Sequence[NewExecution]) -> AbstractContextManager[Sending]:
        """Opens the span of a start of one task, current within the block."""

    def attempt(self, claimed: Claimed, definition: TaskDefinition) -> AttemptSpan:
        """Opens the span of an attempt, in the trace of its start."""


# --- what a tracer raises ------------------------------------------------------------------------


class SafeTracer:
    """A tracer whose methods, and those of its spans, never raise. See `Tracer`."""

    __slots__ = ("_tracer",)

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def sending(self, news: Sequence[NewExecution]) -> SafeSending:
        return SafeSending(self._tracer, news)

    def attempt(self, claimed: Claimed, definition: TaskDefinition) -> SafeSpan | None:
        """Returns None where the span can't be had."""
        span = _logged("attempt", self._tracer.attempt, claimed, definition)
        return None if span is None else SafeSpan(span)


class SafeSending:
    """The span of a start, current within the block. What the block raises passes as it is."""

    __slots__ = ("_manager", "_sending", "_tracer", "news")

    def __init__(self, tracer: Tracer, news: Sequence[NewExecution]) -> None:
        self._tracer = tracer
        self.news = news  # with the trace context, once there is a span
        self._manager: AbstractContextManager[Sending] | None = None
        self._sending: Sending | None = None

    def __enter__(self) -> Self:
        _logged("sending", self._open)
        return self

    def _open(self) -> None:
        manager = self._tracer.sending(self.news)
        self._sending = manager.__enter__()
        self._manager = manager
        self.news = self._sending.news

    def __exit__(self, *raised: object) -> None:
        if self._manager is not None:
            _logged("sending", self._close, self._manager, raised)

    @staticmethod
    def _close(manager: AbstractContextManager[Sending], raised: tuple[object, ...]) -> None:
        try:
            manager.__exit__(*raised)  # type: ignore[arg-type]
        except BaseException as error:
            if error is not raised[1]:
                raise

    def stored(self, snapshot: TaskSnapshot) -> None:
        if self._sending is not None:
            _logged("stored", self._sending.stored, snapshot)

    def discard(self) -> None:
        if self._sending is not None:
            _logged("discard", self._sending.discard)


class SafeSpan:
    """The span of an attempt. See `AttemptSpan`."""

    __slots__ = ("_span", "trace_id")

    def __init__(self, span: AttemptSpan) -> None:
        self._span = span
        self.trace_id = _logged("trace_id", getattr, span, "trace_id", None)

    def activate(self) -> Callable[[], None]:
        undo = _logged("activate", self._span.activate)
        return _nothing if undo is None else partial(_logged, "activate", undo)

    def body_ended(self) -> None:
        _logged("body_ended", self._span.body_ended)

    def settled(self, snapshot: TaskSnapshot, cause: BaseException | None) -> None:
        _logged("settled", self._span.settled, snapshot, cause)

    def dropped(self) -> None:
        _logged("dropped", self._span.dropped)


def _nothing() -> None: ...


def _logged(event: str, call: Callable[..., T], *args: object) -> T | None:
    """Calls; logs what the call raises, and returns None then."""
    try:
        return call(*args)
    except BaseException as error:
        if asks_to_end(error):
            raise
        logger.exception(
            "Tracing failed: %s(). The task goes on, and its span is lost or incomplete. Mend the"
            " span processor, sampler or provider below.",
            event,
        )
        return None


# --- which tracer there is -----------------------------------------------------------------------

Factory: TypeAlias = Callable[[TaskSettings], Tracer | None]

_factory: Factory | None = None
_known: tuple[TaskSettings, SafeTracer | None] | None = None


def register(factory: Factory) -> None:
    """Has `factory` asked for the tracer, in place of an earlier one."""
    global _factory, _known
    _factory, _known = factory, None


def tracer_for(settings: TaskSettings) -> SafeTracer | None:
    """Returns the tracer that the settings ask for; the same object for the same settings.

    None, too, where the project's provider makes none.

    Raises:
        ConfigurationError: it can't be had, for example for want of a package.
    """
    global _known
    known = _known
    if known is not None and known[0] is settings:
        return known[1]
    found = None if _factory is None else made(_factory, settings)
    tracer = None if found is None else SafeTracer(found)
    _known = (settings, tracer)
    return tracer


def _forget() -> None:
    """A forked child has a tracer of its own."""
    global _known
    _known = None


after_fork(_forget)
