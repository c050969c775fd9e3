"""Publisher and listener, each alone, on a scripted connection and a fake clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from rail_async_tasks.backoff import LONGEST
from rail_async_tasks.bus.connection import Command
from rail_async_tasks.bus.listener import PING_EVERY, SILENCE_TIMEOUT, Listener
from rail_async_tasks.bus.outbox import Parcel
from rail_async_tasks.bus.publisher import BATCH_TIMEOUT, Publisher
from rail_async_tasks.bus.wire import decode, event_of
from rail_async_tasks.ids import new_id
from rail_async_tasks.snapshot import TaskSnapshot
from tests.support.clock import FakeClock

ME = new_id()


class FakeConnection:
    """Keeps what is sent. Answers come from the test, or 1 for each command."""

    def __init__(self) -> None:
        self.sent: list[Command] = []
        self.answers: asyncio.Queue[Any] = asyncio.Queue()
        self.is_answering = True
        self.fresh = True
        self.closed = False

    async def send(self, commands: Sequence[Command]) -> None:
        self.sent += commands
        if self.is_answering:
            for command in commands:
                self.answers.put_nowait(self.answer_to(command))

    def answer_to(self, command: Command) -> Any:
        return 1

    async def receive(self) -> Any:
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def is_fresh(self) -> bool:
        return self.fresh

    async def close(self) -> None:
        self.closed = True


class SubscriberConnection(FakeConnection):
    """Confirms subscriptions and answers pings, as Redis does."""

    def answer_to(self, command: Command) -> Any:
        if command[0] == "PING":
            return [b"pong", b""]
        verb, channel = str(command[0]).lower().encode(), str(command[1]).encode()
        return [verb, channel, 1]


class Server:
    """Opens the connections that a test has prepared, one after the other."""

    def __init__(self, *connections: FakeConnection | Exception) -> None:
        self.connections = list(connections)
        self.opened = 0

    async def open(self) -> FakeConnection:
        self.opened += 1
        connection = self.connections.pop(0)
        if isinstance(connection, Exception):
            raise connection
        return connection


@asynccontextmanager
async def running(run: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def parcel(seq: int = 1, *topics: str, it: Any = None) -> Parcel:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    snapshot = TaskSnapshot(
        id=it or new_id(), seq=seq, step=0, name="echo", status="running", queue="default",
        created_at=now, updated_at=now,
    )  # fmt: skip
    return Parcel(event_of(snapshot, ME), topics or ("t",), is_final=False)


def publisher_of(server: Server) -> Publisher:
    return Publisher(server.open, str, "tasks:{}".format)


# --- the publisher -------------------------------------------------------------------------------


async def test_an_event_is_published_to_each_of_its_topics(clock: FakeClock) -> None:
    """On the channels of the bus; the connection stays open for the next one."""
    connection = FakeConnection()
    server = Server(connection)
    publisher = publisher_of(server)
    async with running(publisher.run):
        publisher.put(parcel(1, "one", "two"))
        await clock.advance(1)
        publisher.put(parcel(1, "one"))
        await clock.advance(1)
        assert [it[:2] for it in connection.sent] == [
            ("PUBLISH", "tasks:one"), ("PUBLISH", "tasks:two"), ("PUBLISH", "tasks:one"),
        ]  # fmt: skip
        assert (publisher.sent_count, publisher.waiting, server.opened) == (2, 0, 1)
    assert connection.closed


async def test_of_two_changes_within_a_pause_the_latest_is_sent(clock: FakeClock) -> None:
    """Watchers read the row anyway; the bus carries less."""
    connection = FakeConnection()
    publisher = publisher_of(Server(connection))
    it = new_id()
    async with running(publisher.run):
        publisher.put(parcel())
        await clock.settle()  # it is in its pause
        publisher.put(parcel(2, it=it))
        publisher.put(parcel(3, it=it))
        await clock.advance(1)
    events = [decode(command[2]) for command in connection.sent]
    assert [event.seq for event in events if event is not None] == [1, 3]


async def test_events_wait_while_the_server_is_away(clock: FakeClock) -> None:
    """The publisher tries again after the backoff, and sends them all."""
    connection = FakeConnection()
    publisher = publisher_of(Server(OSError("refused"), OSError("refused"), connection))
    async with running(publisher.run):
        publisher.put(parcel())
        await clock.settle()
        assert publisher.backoff.failing
        assert publisher.waiting == 1
        await clock.advance(LONGEST)
        assert not publisher.backoff.failing
    assert len(connection.sent) == 1
    assert publisher.backoff.failures == 2


async def test_a_batch_without_an_answer_is_sent_again(clock: FakeClock) -> None:
    """On another connection: receivers ignore a version that they have."""
    silent, connection = FakeConnection(), FakeConnection()
    silent.is_answering = False
    publisher = publisher_of(Server(silent, connection))
    async with running(publisher.run):
        publisher.put(parcel())
        await clock.advance(BATCH_TIMEOUT - 0.1)
        assert not silent.closed
        await clock.advance(0.1 + LONGEST)
    assert silent.closed
    assert silent.sent == connection.sent


async def test_a_connection_that_the_server_has_closed_is_replaced(clock: FakeClock) -> None:
    """While there was nothing to send; no event is lost, and nothing fails."""
    stale, connection = FakeConnection(), FakeConnection()
    publisher = publisher_of(Server(stale, connection))
    async with running(publisher.run):
        publisher.put(parcel())
        await clock.advance(1)
        stale.fresh = False
        publisher.put(parcel())
        await clock.advance(1)
    assert stale.closed
    assert (len(stale.sent), len(connection.sent)) == (1, 1)
    assert publisher.backoff.failures == 0


async def test_a_flush_sends_what_waits_without_its_pause(clock: FakeClock) -> None:
    """The end of a process takes no longer than the server's answers."""
    connection = FakeConnection()
    publisher = publisher_of(Server(connection))
    async with running(publisher.run):
        publisher.put(parcel())
        await clock.settle()
        publisher.put(parcel())
        flush = asyncio.ensure_future(publisher.flush(60))
        await clock.settle()
        assert flush.done()
        assert publisher.waiting == 0
    assert len(connection.sent) == 2


async def test_a_flush_does_not_wait_for_a_server_that_is_away(clock: FakeClock) -> None:
    """Events are lost then, which watchers make up for by reading rows."""
    publisher = publisher_of(Server(OSError("refused"), OSError("refused")))
    async with running(publisher.run):
        publisher.put(parcel())
        await clock.settle()
        flush = asyncio.ensure_future(publisher.flush(60))
        await clock.settle()
        assert flush.done()


# --- the listener --------------------------------------------------------------------------------


class Watchers:
    """The topics that are watched here, and what the listener reports of them."""

    def __init__(self, *topics: str) -> None:
        self.topics = set(topics)
        self.received: list[tuple[str, Any]] = []
        self.joined: list[str] = []

    def listener(self, server: Server) -> Listener:
        return Listener(
            server.open,
            str,
            "tasks:{}".format,
            always=("cancels",),
            watched=lambda: sorted(self.topics),
            is_watched=self.topics.__contains__,
            received=lambda topic, data: self.received.append((topic, data)),
            joined=self.joined.append,
        )


async def test_it_subscribes_to_what_is_watched(clock: FakeClock) -> None:
    """And to the topic that every process receives; a subscription that has begun is reported."""
    connection, watchers = SubscriberConnection(), Watchers("a", "b")
    listener = watchers.listener(Server(connection))
    async with running(listener.run):
        await clock.settle()
        assert connection.sent == [("SUBSCRIBE", "tasks:cancels", "tasks:a", "tasks:b")]
        assert listener.connected
    assert not listener.connected


async def test_subscriptions_follow_the_watchers(clock: FakeClock) -> None:
    """A topic whose first watcher comes is subscribed, one whose last goes is not any more."""
    connection, watchers = SubscriberConnection(), Watchers("a")
    listener = watchers.listener(Server(connection))
    async with running(listener.run):
        await clock.settle()
        watchers.topics.add("b")
        listener.touch("b")
        await clock.advance(1)
        watchers.topics.discard("a")
        listener.touch("a")
        await clock.advance(1)
    assert connection.sent[1:3] == [("SUBSCRIBE", "tasks:b"), ("UNSUBSCRIBE", "tasks:a")]
    assert watchers.joined == ["b"]


async def test_an_event_is_passed_on_with_its_topic(clock: FakeClock) -> None:
    """Answers that this protocol does not have are counted, and change nothing."""
    connection, watchers = SubscriberConnection(), Watchers("a")
    listener = watchers.listener(Server(connection))
    async with running(listener.run):
        for answer in ([b"message", b"tasks:a", b"data"], [b"invalidate", None], 7):
            connection.answers.put_nowait(answer)
        await clock.settle()
    assert watchers.received == [("a", b"data")]
    assert listener.strange_count == 2


async def test_a_quiet_connection_lives_by_its_pings(clock: FakeClock) -> None:
    """A minute without an event is no failure."""
    connection, watchers = SubscriberConnection(), Watchers()
    listener = watchers.listener(Server(connection))
    async with running(listener.run):
        await clock.advance(60)
        assert listener.connected
    assert connection.sent.count(("PING",)) == 60 / PING_EVERY
    assert listener.connections_count == 1


async def test_a_silent_connection_is_replaced(clock: FakeClock) -> None:
    """One that is dead on the other side only gives no error; the new one subscribes to all."""
    silent, connection, watchers = SubscriberConnection(), SubscriberConnection(), Watchers("a")
    listener = watchers.listener(Server(silent, connection))
    async with running(listener.run):
        await clock.settle()
        silent.is_answering = False
        await clock.advance(SILENCE_TIMEOUT - 0.1)
        assert not silent.closed
        await clock.advance(0.1)
        assert silent.closed
        assert not listener.connected
        await clock.advance(LONGEST)
        assert listener.connected
    assert connection.sent[0] == ("SUBSCRIBE", "tasks:cancels", "tasks:a")


@pytest.mark.parametrize("failure", ["at the start", "later"])
async def test_it_connects_again_after_any_failure(clock: FakeClock, failure: str) -> None:
    """After the backoff, for as long as it takes."""
    broken, connection, watchers = SubscriberConnection(), SubscriberConnection(), Watchers("a")
    broken.answers.put_nowait(ConnectionResetError("reset"))
    first = OSError("refused") if failure == "at the start" else broken
    listener = watchers.listener(Server(first, connection))
    async with running(listener.run):
        await clock.settle()
        assert listener.backoff.failing
        await clock.advance(LONGEST)
        assert listener.connected
        assert not listener.backoff.failing
