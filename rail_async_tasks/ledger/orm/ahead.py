"""Stores a page of rows while its caller makes the next one."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

from rail_async_tasks.ledger.records import Created, NewExecution

Page: TypeAlias = Sequence[NewExecution]
Create: TypeAlias = Callable[[Page], Sequence[Created]]
Stored: TypeAlias = tuple[Page, Sequence[Created]]


def stored_ahead(pages: Iterable[Page], create: Create) -> Iterator[Stored]:
    """Yields each page with its result, in their order.

    Making a page takes this thread about half as long as storing it takes the database. A page is
    stored in another thread, while this one makes the next but one; a single page in this thread.

    Args:
        create: stores a page on the caller's connection, which the driver must let two threads use
            in turn. Not by the ORM, which has a connection for each thread.

    Raises:
        what `create` raises, once the page after the next is asked for.
    """
    made: Page | None = None
    on_its_way: tuple[Page, Future[Sequence[Created]]] | None = None
    with ThreadPoolExecutor(1, "rail-tasks-pages") as thread:
        for page in pages:
            if on_its_way is not None:
                yield on_its_way[0], on_its_way[1].result()
            if made is not None:
                # In the caller's context, which instruments of the connection may read.
                run = contextvars.copy_context().run
                on_its_way = (made, thread.submit(run, create, made))
            made = page
        if on_its_way is not None:
            yield on_its_way[0], on_its_way[1].result()
        if made is not None:
            yield made, create(made)
