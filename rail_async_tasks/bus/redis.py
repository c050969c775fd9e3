"""The bus between processes, over Redis or Valkey."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

from rail_async_tasks.bus.follower import Follower
from rail_async_tasks.bus.listener import Listener
from rail_async_tasks.bus.mailbox import Mailbox
from rail_async_tasks.bus.memory import MemoryBus
from rail_async_tasks.bus.outbox import Parcel
from rail_async_tasks.bus.publisher import Publisher
from rail_async_tasks.bus.redis_connection import Connector
from rail_async_tasks.bus.wire import decode, event_of, event_of_queues
from rail_async_tasks.ledger.port import LoopReads
from rail_async_tasks.snapshot import TaskSnapshot, topics

# The topic of cancel requests: the process that runs the execution re-reads its row at once.
CANCELS = "cancels"
# The topic of pauses: every process re-reads the paused queues at once.
QUEUES = "queues"
# For sending the waiting events at the end of the process, in seconds.
FLUSH_TIMEOUT = 0.3


class RedisBus(MemoryBus):
    """See `port.Bus`. Within this process it works without Redis, as `MemoryBus`.

    It exchanges events with other processes between `start` and `stop`, on the runtime's loop. It
    has two connections, whatever the number of watchers.
    """

    def __init__(self, url: str, prefix: str) -> None:
        """`prefix` begins the names of all channels.

        Raises:
            ConfigurationError: redis-py is not installed, or can't read the URL.
        """
        super().__init__()
        self._connector = Connector(url)
        self._prefix = prefix
        self._id = uuid4()
        self._exchange: _Exchange | None = None

    def start(
        self,
        ledger: LoopReads,
        on_cancel: Callable[[UUID], None],
        on_queues: Callable[[], None],
    ) -> None:
        self._exchange = _Exchange(
            self, self._connector, self._prefix, self._id, on_cancel, on_queues
        )
        self._exchange.begin(ledger)

    async def stop(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            await exchange.end()

    def publish(self, snapshot: TaskSnapshot) -> None:
        super().publish(snapshot)
        exchange = self._exchange
        if exchange is not None:
            exchange.send(snapshot)

    def announce_queues(self) -> None:
        exchange = self._exchange
        if exchange is not None:
            exchange.send_queues()

    @asynccontextmanager
    async def subscribe(self, *topics: str) -> AsyncIterator[Mailbox]:
        try:
            async with super().subscribe(*topics) as mailbox:
                for topic in topics:
                    self._touch(topic)
                yield mailbox
        finally:
            for topic in topics:
                self._touch(topic)

    def _touch(self, topic: str) -> None:
        exchange = self._exchange  # `stop` may come meanwhile, in another thread
        if exchange is not None:
            exchange.listener.touch(topic)

    @property
    def connected(self) -> bool:
        """Also true in a process without a runtime, which has nothing to connect."""
        exchange = self._exchange
        return exchange is None or (
            exchange.listener.connected and not exchange.publisher.backoff.failing
        )

    def statistics(self) -> dict[str, int]:
        exchange = self._exchange
        return super().statistics() | ({} if exchange is None else exchange.statistics())


class _Exchange:
    """Publisher, listener and follower, while a runtime lives; on the runtime's loop."""

    def __init__(
        self,
        bus: RedisBus,
        connector: Connector,
        prefix: str,
        sender: UUID,
        on_cancel: Callable[[UUID], None],
        on_queues: Callable[[], None],
    ) -> None:
        self._sender = sender
        self._on_cancel = on_cancel
        self._on_queues = on_queues
        self._tasks: list[asyncio.Task[None]] = []
        self.received_count = 0
        self.malformed_count = 0

        def channel(topic: str) -> str:
            return f"{prefix}:{topic}"

        self.publisher = Publisher(connector.open, connector.describe, channel)
        self._follower = Follower(bus.deliver)
        self.listener = Listener(
            connector.open,
            connector.describe,
            channel,
            always=(CANCELS, QUEUES),
            watched=bus.watched,
            is_watched=bus.is_watched,
            received=self._received,
            joined=self._follower.joined,
        )

    def begin(self, ledger: LoopReads) -> None:
        runs: list[tuple[str, Coroutine[Any, Any, None]]] = [
            ("publisher", self.publisher.run()),
            ("listener", self.listener.run()),
            ("follower", self._follower.run(ledger)),
        ]
        loop = asyncio.get_running_loop()
        # A clean context, as for everything that outlives a request.
        self._tasks = [
            loop.create_task(run, name=f"rail-tasks-{name}", context=contextvars.Context())
            for name, run in runs
        ]

    async def end(self) -> None:
        """Sends the waiting events if the server is there, and closes both connections."""
        await self.publisher.flush(FLUSH_TIMEOUT)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close in the loop's next turn

    def send(self, snapshot: TaskSnapshot) -> None:
        """Queues a snapshot for the other processes. From any thread."""
        addressed = topics(snapshot)
        if snapshot.cancel_requested and not snapshot.is_final:
            addressed = (*addressed, CANCELS)
        self.publisher.put(Parcel(event_of(snapshot, self._sender), addressed, snapshot.is_final))

    def send_queues(self) -> None:
        """Queues the announcement of a pause or its end. From any thread."""
        self.publisher.put(Parcel(event_of_queues(self._sender), (QUEUES,), is_final=True))

    def _received(self, topic: str, data: Any) -> None:
        event = decode(data)
        if event is None:
            self.malformed_count += 1
        elif event.by != self._sender:
            self.received_count += 1
            if topic == CANCELS:
                self._on_cancel(event.id)
            elif topic == QUEUES:
                self._on_queues()
            else:
                self._follower.received(event)

    def statistics(self) -> dict[str, int]:
        publisher, listener = self.publisher, self.listener
        return {
            "sent": publisher.sent_count,
            "waiting": publisher.waiting,
            "dropped": publisher.dropped_count,
            "heard": self.received_count,
            "malformed": self.malformed_count + listener.strange_count,
            "reread": self._follower.read_count,
            "connections": listener.connections_count,
            "failures": publisher.backoff.failures + listener.backoff.failures,
        }
