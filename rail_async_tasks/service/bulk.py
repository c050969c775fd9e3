"""Many starts of one task: all or none, in one transaction, the caller's if there is one.

The calls are read page by page as their rows are stored: of a generator's a million no more is in
memory at once than a page, and a snapshot of each task for its handle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final

from asgiref.sync import sync_to_async

from rail_async_tasks.backends import get_backend
from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.errors import BackendUnavailable, InvalidArguments
from rail_async_tasks.hooks import contained
from rail_async_tasks.hosting import process
from rail_async_tasks.hosting.submission import submission_for
from rail_async_tasks.ledger.records import NewExecution
from rail_async_tasks.runtime.admission import Entry
from rail_async_tasks.runtime.limits import Limits
from rail_async_tasks.runtime.tracing import tracer_for
from rail_async_tasks.service.request import (
    EnqueueOptions,
    carried_language,
    enabled_settings,
    limits_of,
    template_for,
)
from rail_async_tasks.snapshot import TaskSnapshot

# Rows of one INSERT. Its cost grows faster than its rows much beyond this.
PAGE: Final = 1000


def enqueue_many(
    definition: TaskDefinition, calls: Iterable[Mapping[str, Any]], options: EnqueueOptions
) -> list[TaskSnapshot]:
    """Stores an execution for each call; returns them in the order of the calls.

    Args:
        calls: the arguments of each start, by name.

    Raises:
        InvalidArguments, UnknownQueue, TasksDisabled, QueueFull, RateLimited, BackendUnavailable:
            nothing was stored.
        RuntimeError: called on an event loop, which it would block.
    """
    settings = enabled_settings()
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            f"{definition.name}.enqueue_many() was called on an event loop, which it would block:"
            f" write `await {definition.name}.aenqueue_many(...)`."
        )
    return _store(Pages(definition, calls, options, settings), options, settings)


async def aenqueue_many(
    definition: TaskDefinition, calls: Iterable[Mapping[str, Any]], options: EnqueueOptions
) -> list[TaskSnapshot]:
    """`enqueue_many` for code on an event loop. Raises as that does, without RuntimeError.

    `calls` are read in the thread that stores them.
    """
    settings = enabled_settings()
    pages = Pages(definition, calls, options, settings)
    await submission_for(get_backend(settings)).aprepare()
    return await sync_to_async(contained(_store))(pages, options, settings)


class Pages:
    """The rows to store, page by page. May be read again where the calls may be.

    Raises:
        InvalidArguments: names the call by its number. Or, at once, an option breaks its rule.
        UnknownQueue: there is no such queue.
    """

    def __init__(
        self,
        definition: TaskDefinition,
        calls: Iterable[Mapping[str, Any]],
        options: EnqueueOptions,
        settings: TaskSettings,
    ) -> None:
        self._definition = definition
        self._calls = calls
        self._template = template_for(definition, options, settings)
        self._language = carried_language(settings)
        self._read = False

    def __iter__(self) -> Iterator[list[NewExecution]]:
        calls = iter(self._calls)
        if self._read and calls is self._calls:
            raise BackendUnavailable(
                "The tasks could not be stored: the database could not serialize the transaction,"
                " and the calls are a generator, which can't be read again. Pass a list."
            )
        self._read = True
        page = []
        for number, arguments in enumerate(calls):
            page.append(self._row(number, arguments))
            if len(page) == PAGE:
                yield page
                page = []
        if page:
            yield page

    def _row(self, number: int, arguments: Mapping[str, Any]) -> NewExecution:
        if not isinstance(arguments, Mapping):
            raise InvalidArguments(
                f"Call {number} of enqueue_many() must be a dict of arguments, not"
                f" {type(arguments).__name__}: enqueue_many([{{...}}, {{...}}])."
            )
        try:
            return self._template.row(self._definition.encode(arguments), self._language)
        except InvalidArguments as error:
            raise InvalidArguments(f"Call {number} of enqueue_many(): {error}") from error


def _store(
    pages: Iterable[list[NewExecution]], options: EnqueueOptions, settings: TaskSettings
) -> list[TaskSnapshot]:
    tracer = tracer_for(settings)
    if tracer is None:
        return _admit(pages, options, settings)
    news = [new for page in pages for new in page]  # the span says how many they are
    if not news:
        return []
    with tracer.sending(news) as sending:
        traced = [sending.news[it : it + PAGE] for it in range(0, len(news), PAGE)]
        return _admit(traced, options, settings)


def _admit(
    pages: Iterable[Sequence[NewExecution]], options: EnqueueOptions, settings: TaskSettings
) -> list[TaskSnapshot]:
    backend = get_backend(settings)
    limits = limits_of(options.owner_id, options, settings, inline=backend.inline)
    submission = submission_for(backend)
    if limits is None:
        return submission.submit_many(pages)
    with ExitStack() as stack:
        return submission.submit_many(Admitted(pages, limits, stack))


class Admitted:
    """Pages, each admitted before it is stored.

    Args:
        stack: surrounds the creation of all.

    Raises:
        QueueFull, RateLimited: one of them would exceed a limit, so none may be created.
    """

    def __init__(
        self, pages: Iterable[Sequence[NewExecution]], limits: Limits, stack: ExitStack
    ) -> None:
        self._pages = pages
        self._limits = limits
        self._stack = stack

    def __iter__(self) -> Iterator[Sequence[NewExecution]]:
        self._stack.close()  # of a try before this one, which stored nothing
        admission = process.admission()
        for number, page in enumerate(self._pages):
            entry = Entry(admission, [new.id for new in page], self._limits)
            self._stack.enter_context(entry)
            if number:
                entry.check_more()
            else:
                entry.check()
            yield page
