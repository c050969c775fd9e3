"""Waits for a result that can never end: they raise at once, and say what to do."""

from __future__ import annotations

import asyncio
from typing import Final
from uuid import UUID

from asgiref.sync import sync_to_async

from rail_async_tasks.errors import WouldWaitForever
from rail_async_tasks.hooks import contained
from rail_async_tasks.hosting import process
from rail_async_tasks.hosting.held import Held, holder
from rail_async_tasks.hosting.uncommitted import is_uncommitted_here
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.snapshot import TaskSnapshot

logger = get_logger("rail_async_tasks")

_IN_TRANSACTION: Final = (
    "result() of task {name} ({id}) was called inside the transaction that has enqueued it, and the"
    " task starts only after the commit. Call result() after the `atomic()` block. In a test whose"
    " transaction is never committed (TestCase, or pytest's `db`), run the task by"
    " rail_tasks.run() or self.tasks.run(), see rail_async_tasks.testing; or set"
    ' task_settings["backend"] to "sync", which runs it in enqueue().'
)
_HELD: Final = (
    "result() of task {name} ({id}) was called while it is {status}, and nothing runs by itself in"
    " this test. Call rail_tasks.run(), or self.tasks.run(), before result(); for a delay or a"
    " retry that is not due yet, call advance(seconds) first."
)


def refuse_endless_wait(snapshot: TaskSnapshot) -> None:
    """Returns if the execution can end while this thread waits for it.

    Raises:
        WouldWaitForever: it is part of this thread's open transaction, or held by a test.
    """
    held = holder()
    if held is not None:
        _run_if_due(held, snapshot.id)
        fresh = process.ledger().get(snapshot.id)
        if fresh is not None and not fresh.is_final:
            raise WouldWaitForever(_HELD.format(name=fresh.name, id=fresh.id, status=fresh.status))
        return
    ledger = process.ledger()
    if not ledger.in_transaction():
        return
    if is_uncommitted_here(snapshot.id):
        raise WouldWaitForever(_IN_TRANSACTION.format(name=snapshot.name, id=snapshot.id))
    logger.warning(
        "Deadlock? result() of task %s (%s) waits inside a transaction: the task can't have what"
        " the transaction has locked, which on SQLite is every write. Call result() after the"
        " `atomic()` block.", snapshot.name, snapshot.id,
    )  # fmt: skip


async def arefuse_endless_wait(snapshot: TaskSnapshot) -> None:
    """`refuse_endless_wait` for a loop. Free of cost where no transaction can be open."""
    if holder() is None and not process.is_short_lived(asyncio.get_running_loop()):
        return
    await sync_to_async(contained(refuse_endless_wait))(snapshot)


def _run_if_due(held: Held, execution_id: UUID) -> None:
    """Runs the execution if a body waits for it: the test itself waits for that body."""
    if held.finish is not None:
        held.finish(execution_id)
