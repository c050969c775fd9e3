"""Runs tasks for the `sync` backend: at once, in the caller's thread and transaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import msgspec
from django.db import transaction

from rail_async_tasks.bus.port import Bus
from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.errors import TaskCancelled
from rail_async_tasks.ids import new_id
from rail_async_tasks.language import in_language
from rail_async_tasks.ledger.port import CallerTransaction, InlineAttempts, Reads
from rail_async_tasks.ledger.records import INLINE_HOLDER, Claimed, NewExecution, Progress
from rail_async_tasks.ledger.snapshots import as_created, as_settled
from rail_async_tasks.ledger.upkeep import Callbacks
from rail_async_tasks.registry import Registry
from rail_async_tasks.runtime.announce import announcer_for
from rail_async_tasks.runtime.attempts import outcomes
from rail_async_tasks.runtime.attempts.around import AttemptInfo, around_here, find_around
from rail_async_tasks.runtime.attempts.calling import decode
from rail_async_tasks.runtime.attempts.leftovers import as_found
from rail_async_tasks.runtime.attempts.options import policy_for
from rail_async_tasks.runtime.attempts.outcomes import AttemptPolicy, Transition
from rail_async_tasks.runtime.attempts.own_frames import cut_own_frames
from rail_async_tasks.runtime.attempts.span import dropped, ended, within
from rail_async_tasks.runtime.failures import (
    Callback,
    call_here,
    find_callback,
    hold_of,
)
from rail_async_tasks.runtime.inline_body import (
    TimedOut,
    call_body,
    call_there,
    leading,
    on_loop,
)
from rail_async_tasks.runtime.tracing import tracer_for
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import Status
from rail_async_tasks.text import MAX_MESSAGE_BYTES, clean


class InlineLedger(CallerTransaction, InlineAttempts, Reads, Protocol):
    """The ports of the ledger that an inline run uses."""

    def callbacks(self) -> Callbacks | None:
        """See `port.Ledger`."""
        ...


class InlineRun:
    """Runs executions in the calling thread, which must have no running event loop."""

    def __init__(
        self, settings: TaskSettings, registry: Registry, ledger: InlineLedger, bus: Bus
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._ledger = ledger
        callback = find_callback(settings)
        self._announcer = announcer_for(
            settings, bus, partial(_call_back, ledger, callback) if callback else None
        )
        self._runtime_id = INLINE_HOLDER
        self._around = find_around(settings)
        self._tracer = tracer_for(settings)

    def create(self, new: NewExecution) -> TaskSnapshot:
        """Stores the execution and runs it to its end; an existing one with its key comes back."""
        created = self._ledger.create_here(new)
        if created.existing is not None:
            return created.existing
        snapshot = as_created(new, created)
        self._announcer.enqueued(snapshot)
        return self.run(new.id)

    def create_many(self, pages: Iterable[Sequence[NewExecution]]) -> list[TaskSnapshot]:
        """Stores all executions or none, then runs them in order, each to its end."""
        made = self._ledger.create_many_here(pages)
        for snapshot in made.fresh:
            self._announcer.enqueued(snapshot)
        fresh = {snapshot.id for snapshot in made.fresh}
        return [self.run(it.id) if it.id in fresh else it for it in made.stored]

    def run(self, execution_id: UUID) -> TaskSnapshot:
        """Attempts the execution until it is final. Retries follow at once."""
        while True:
            snapshot = self.attempt(execution_id)
            if snapshot is None:  # cancelled before its claim, or its queue is paused
                snapshot = self._ledger.get(execution_id)
                assert snapshot is not None
                return snapshot
            if snapshot.is_final:
                return snapshot

    def attempt(self, execution_id: UUID) -> TaskSnapshot | None:
        """Runs the next attempt, due or not; returns None if the execution does not wait."""
        claimed = self._ledger.claim_here(execution_id, self._runtime_id, new_id())
        return None if claimed is None else self._attempt(claimed)

    def _attempt(self, claimed: Claimed) -> TaskSnapshot:
        definition = self._registry.get(claimed.snapshot.name)
        assert definition is not None, "it was enqueued by its definition"
        self._announcer.started(claimed.snapshot)
        policy = policy_for(claimed.snapshot, definition, self._settings, hold_of(self._settings))
        progress = _Progress(self, claimed)
        began = time.monotonic()
        language = claimed.language if self._settings.carry_language else None
        with in_language(language), within(self._tracer, claimed, definition) as span:
            transition = self._body(claimed, definition, policy, progress)
        seconds = time.monotonic() - began
        slow_after = self._settings.slow_task_threshold_seconds
        if slow_after is not None and seconds > slow_after:
            self._announcer.slow(progress.snapshot, seconds)
        outcome = outcomes.as_outcome(
            transition,
            id=claimed.snapshot.id,
            token=claimed.token,
            progress=progress.snapshot.progress,
            progress_message=progress.snapshot.progress_message,
            policy=policy,
        )
        settled = self._ledger.settle_here(outcome)
        if settled is None:  # another process has ended it: its outcome holds
            dropped(span)
            self._announcer.dropped(progress.snapshot, seconds)
            snapshot = self._ledger.get(claimed.snapshot.id)
            assert snapshot is not None
            return snapshot
        snapshot = as_settled(progress.snapshot, outcome, settled)
        trace_id = ended(span, snapshot, transition.cause)
        self._announcer.settled(snapshot, seconds, outcome.traceback, transition.cause, trace_id)
        return snapshot

    def _body(
        self,
        claimed: Claimed,
        definition: TaskDefinition,
        policy: AttemptPolicy,
        progress: _Progress,
    ) -> Transition:
        try:
            arguments = decode(definition, claimed.arguments)
            lead = partial(leading, claimed.snapshot, definition, progress.report)
            timeout = policy.timeout if definition.is_coroutine else None
            run_it = partial(call_body, definition, lead, arguments, timeout)
            if self._around is not None:
                attempt = AttemptInfo.of(claimed.snapshot, definition, arguments)
                there = partial(call_there, definition, lead, arguments)
                run = partial(on_loop, timeout)
                run_it = partial(around_here, self._around, attempt, run_it, there, run)
            who = f"Task {claimed.snapshot.name} ({claimed.snapshot.id})"
            return outcomes.returned(self._contained(run_it, who), policy)
        except TimedOut as error:
            cut_own_frames(error, definition.function.__code__)
            return outcomes.timed_out(policy, error.__cause__)
        except KeyboardInterrupt:  # Ctrl-C is for the caller: this is its thread
            raise
        except (asyncio.CancelledError, TaskCancelled, GeneratorExit) as error:
            return outcomes.raised(RuntimeError(f"The body raised {type(error).__name__}."), policy)
        except BaseException as error:
            cut_own_frames(error, definition.function.__code__)
            return outcomes.raised(error, policy)

    def _contained(self, call: Callable[[], Any], who: str) -> Any:
        with self._savepoint(), as_found(who):
            return call()

    def _savepoint(self) -> AbstractContextManager[object]:
        """Returns a savepoint for a body in the caller's transaction; nothing outside of one.

        A body that breaks its transaction must not take the caller's with it.
        """
        return transaction.atomic() if self._ledger.in_transaction() else nullcontext()

    def progressed(self, claimed: Claimed, snapshot: TaskSnapshot) -> None:
        self._announcer.progressed(snapshot)
        if asyncio._get_running_loop() is not None:
            return  # an `async def` body: the row gets the last of it with the outcome
        self._ledger.progress_here(
            Progress(
                snapshot.id,
                claimed.token,
                snapshot.progress,
                snapshot.progress_message,
                snapshot.step,
            )
        )

    @property
    def progress_interval(self) -> float:
        return self._settings.progress_interval_seconds


def _call_back(
    ledger: InlineLedger, callback: Callback, snapshot: TaskSnapshot, traceback: str | None
) -> None:
    """Calls the project's callback, after the caller's transaction."""

    def call_back() -> None:
        call_here(callback, snapshot, traceback)
        callbacks = ledger.callbacks()
        if callbacks is not None:
            callbacks.made_here(snapshot.id)

    ledger.on_commit(call_back)


class _Progress:
    """Throttled progress without a loop: what is held back goes with the outcome."""

    def __init__(self, run: InlineRun, claimed: Claimed) -> None:
        self._run = run
        self._claimed = claimed
        self._next_at = 0.0
        self.snapshot = claimed.snapshot

    def report(self, percent: int, message: str | None) -> None:
        self.snapshot = msgspec.structs.replace(
            self.snapshot,
            progress=percent,
            progress_message=None if message is None else clean(message, MAX_MESSAGE_BYTES),
            step=self.snapshot.step + 1,
        )
        if time.monotonic() >= self._next_at and self.snapshot.status == Status.RUNNING:
            self._next_at = time.monotonic() + self._run.progress_interval
            self._run.progressed(self._claimed, self.snapshot)
