"""A subscriber's mailbox by itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID

from rail_async_tasks.bus.mailbox import Mailbox
from rail_async_tasks.ids import new_id
from rail_async_tasks.snapshot import TaskSnapshot
from tests.support.waiting import TIMEOUT

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def snapshot(execution_id: UUID, seq: int, step: int = 0) -> TaskSnapshot:
    return TaskSnapshot(
        id=execution_id, name="n", status="running", queue="q", created_at=NOW, updated_at=NOW,
        seq=seq, step=step,
    )  # fmt: skip


async def drained(mailbox: Mailbox) -> list[TaskSnapshot]:
    mailbox.close()
    return [it async for it in mailbox]


async def test_executions_come_in_the_order_of_their_first_unread_news() -> None:
    """Newer news of one keeps its predecessor's place: a busy task does not fall behind."""
    a, b = new_id(), new_id()
    mailbox = Mailbox()
    for it in (snapshot(a, 1), snapshot(b, 1), snapshot(a, 2)):
        mailbox.put(it)
    assert [(it.id, it.seq) for it in await drained(mailbox)] == [(a, 2), (b, 1)]


async def test_what_is_not_newer_changes_nothing() -> None:
    """By (seq, step); equal is not newer."""
    it = new_id()
    mailbox = Mailbox()
    for seq, step in [(2, 1), (2, 0), (1, 9), (2, 1)]:
        mailbox.put(snapshot(it, seq, step))
    assert [found.version for found in await drained(mailbox)] == [(2, 1)]
    assert mailbox.put_count == 1
    assert mailbox.superseded_count == 3


async def test_a_cancelled_reader_loses_nothing() -> None:
    """A read that was given up while it waited takes no snapshot with it."""
    mailbox = Mailbox()
    reading = asyncio.ensure_future(anext(mailbox))
    await asyncio.sleep(0)
    mailbox.put(snapshot(new_id(), 1))
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    if reading.cancelled():
        assert len(mailbox) == 1
    mailbox.put(snapshot(new_id(), 2))
    assert (await asyncio.wait_for(anext(mailbox), TIMEOUT)).seq in (1, 2)


async def test_closing_twice_and_putting_after_it() -> None:
    """Events that come before the reader has ended are still read."""
    mailbox = Mailbox()
    mailbox.close()
    mailbox.close()
    mailbox.put(snapshot(new_id(), 1))
    assert [it.seq async for it in mailbox] == [1]
    assert [it async for it in mailbox] == []


async def test_a_tight_loop_of_puts_wakes_the_loop_once() -> None:
    """From a thread, unread news costs the loop one wake-up, however many they are."""
    mailbox, it = Mailbox(), new_id()
    loop = asyncio.get_running_loop()
    woken = 0
    original = loop.call_soon_threadsafe

    def counted(callback: object, *args: object, **kwargs: object) -> object:
        nonlocal woken
        woken += callback == mailbox._wake
        return original(callback, *args, **kwargs)  # type: ignore[arg-type]

    loop.call_soon_threadsafe = counted  # type: ignore[method-assign, assignment]
    try:
        import threading

        thread = threading.Thread(
            target=lambda: [mailbox.put(snapshot(it, 1, step)) for step in range(500)]
        )
        thread.start()
        thread.join()  # the loop stands still meanwhile
    finally:
        del loop.call_soon_threadsafe
    assert woken == 1
    assert (await asyncio.wait_for(anext(mailbox), TIMEOUT)).step == 499
