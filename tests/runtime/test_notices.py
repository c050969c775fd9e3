"""Notices to and from other processes: who is woken, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from django.db import OperationalError

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.ledger.notices import Envelope, Notice, OnNotice, decode, encode
from rail_async_tasks.runtime.notices import (
    ALONE_POLL,
    DEAF_POLL,
    HEARD_POLL,
    NoticeExchange,
    longest_poll_of,
)
from tests.support.clock import FakeClock


class ListNotices:
    """Keeps what is sent; hands over what a test puts in."""

    def __init__(self) -> None:
        self.heard = True
        self.sent: list[Notice] = []
        self.error: Exception | None = None
        self.hand: OnNotice | None = None

    async def run(self, on_notice: OnNotice) -> None:
        self.hand = on_notice
        await asyncio.Event().wait()

    async def send(self, notice: Notice) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append(notice)

    def come(self, notice: Notice, execution_id: UUID | None = None) -> None:
        assert self.hand is not None
        self.hand(notice, execution_id)


class World:
    """An exchange, and what it has had others do."""

    def __init__(self) -> None:
        self.notices = ListNotices()
        self.alone = False
        self.room = True
        self.surveys = 0
        self.looks_at_queues = 0
        self.cancelled: list[UUID] = []
        self.exchange = NoticeExchange(
            notices=self.notices, on_due=self._survey, alone=lambda: self.alone,
            room=lambda: self.room, on_queues=self._look_at_queues,
            on_cancel=self.cancelled.append,
        )  # fmt: skip

    def _survey(self) -> None:
        self.surveys += 1

    def _look_at_queues(self) -> None:
        self.looks_at_queues += 1


@pytest.fixture
async def world(clock: FakeClock) -> AsyncIterator[World]:
    world = World()
    running = asyncio.create_task(world.exchange.run())
    await clock.settle()
    yield world
    world.exchange.stop()
    await running


async def test_a_notice_of_due_rows_has_the_ledger_surveyed(world: World, clock: FakeClock) -> None:
    """Many in a moment cost two surveys: one at once, and one for all that came meanwhile."""
    for _ in range(50):
        world.notices.come(Notice.DUE)
        await clock.settle()
    assert world.surveys == 1
    await clock.advance(0.06)
    assert world.surveys == 2


async def test_a_process_without_a_free_slot_looks_at_none(world: World, clock: FakeClock) -> None:
    """Its own surveys come soon: it is at work."""
    world.room = False
    world.notices.come(Notice.DUE)
    await clock.advance(1)
    assert world.surveys == 0
    world.notices.come(Notice.QUEUES)  # a pause must be heeded also by the busy
    await clock.advance(1)
    assert (world.surveys, world.looks_at_queues) == (1, 1)


async def test_a_cancel_is_handed_on(world: World) -> None:
    """With the execution's id; without one there is nothing to do."""
    asked = new_id()
    world.notices.come(Notice.CANCELS, asked)
    world.notices.come(Notice.CANCELS, None)
    assert world.cancelled == [asked]
    assert world.surveys == 0


async def test_rows_that_are_left_are_announced_a_few_times_a_second(
    world: World, clock: FakeClock
) -> None:
    """The first at once, and the last too: no row waits for a survey."""
    for _ in range(1000):
        world.exchange.rows_left()
    await clock.settle()
    world.exchange.rows_left()
    await clock.settle()
    assert world.notices.sent == [Notice.DUE]
    await clock.advance(0.11)
    assert len(world.notices.sent) == 2
    await clock.advance(5)
    assert len(world.notices.sent) == 2


async def test_a_process_that_is_alone_sends_none(world: World, clock: FakeClock) -> None:
    """Nor at its end."""
    world.alone = True
    world.exchange.rows_left()
    await clock.advance(1)
    await world.exchange.close()
    assert world.notices.sent == []


async def test_a_notice_that_can_not_be_sent_holds_nothing_up(
    world: World, clock: FakeClock
) -> None:
    """The next one is tried."""
    world.notices.error = OperationalError("away")
    world.exchange.rows_left()
    await clock.advance(1)
    await world.exchange.close()
    world.notices.error = None
    world.exchange.rows_left()
    await clock.advance(1)
    assert world.notices.sent == [Notice.DUE]


async def test_the_end_is_announced(world: World) -> None:
    """What ran here is handed back, for others."""
    await world.exchange.close()
    assert world.notices.sent == [Notice.DUE]


async def test_surveys_are_as_seldom_as_notices_allow(world: World, clock: FakeClock) -> None:
    """While none arrive, as behind a pooler, rows are found by surveys alone."""
    assert world.exchange.longest_poll() == HEARD_POLL
    world.notices.heard = False
    assert world.exchange.longest_poll() == DEAF_POLL
    assert longest_poll_of(MemoryLedger()) == ALONE_POLL


@pytest.mark.parametrize("text", [b"", b"{}", b"[1, 2]", b'["x", "due"]', b"\xff"])
def test_a_text_of_a_stranger_is_no_notice(text: bytes) -> None:
    """Anyone may send on a channel."""
    assert decode(text) is None


def test_a_notice_survives_its_way() -> None:
    """It is short: PostgreSQL takes 8,000 bytes."""
    for envelope in (Envelope(new_id(), "due"), Envelope(new_id(), "cancels", new_id())):
        text: Any = encode(envelope)
        assert len(text) < 200
        assert decode(text.encode()) == envelope
