"""The bus between processes, over Redis or Valkey."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

from rail_async_tasks.bus.follower import Follower
from rail_async_tasks.bus.link import Command
from rail_async_tasks.bus.listener import Listener
from rail_async_tasks.bus.mailbox import Mailbox
from rail_async_tasks.bus.memory import MemoryBus
from rail_async_tasks.bus.outbox import Parcel
from rail_async_tasks.bus.publisher import Publisher
from rail_async_tasks.bus.wire import decode, news_of
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.redis_address import RedisAddress
from rail_async_tasks.snapshot import TaskSnapshot, topics

# The topic of cancels: whoever runs the execution looks at its row at once.
CANCELS = "cancels"
# What news that wait get to be sent at the end of the process, in seconds.
FLUSH_PATIENCE = 0.3

# Connections that are open. A forked child has copies that it must not finalize: asyncio would
# take the parent's sockets out of the parent's selector.
_open_connections: set[Any] = set()


class RedisBus(MemoryBus):
    """See `port.Bus`. Watchers here hear of what happens here without Redis, as in `MemoryBus`.

    It lives between `start` and `stop`, on the runtime's loop; before and after, nothing leaves
    this process. It has two connections, whatever the number of watchers.
    """

    def __init__(self, url: str, prefix: str) -> None:
        """`prefix` begins the names of all channels.

        Raises:
            ConfigurationError: redis-py is not installed, or can't read the URL.
        """
        super().__init__()
        self._server = _Server(url)
        self._prefix = prefix
        self._id = uuid4()
        self._life: _Life | None = None

    def start(self, ledger: Ledger, on_cancel: Callable[[UUID], None]) -> None:
        self._life = _Life(self, self._server, self._prefix, self._id, on_cancel)
        self._life.begin(ledger)

    async def stop(self) -> None:
        life, self._life = self._life, None
        if life is not None:
            await life.end()

    def publish(self, snapshot: TaskSnapshot) -> None:
        super().publish(snapshot)
        life = self._life
        if life is not None:
            life.tell(snapshot)

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[Mailbox]:
        try:
            async with super().subscribe(topic) as mailbox:
                self._touch(topic)
                yield mailbox
        finally:
            self._touch(topic)

    def _touch(self, topic: str) -> None:
        if self._life is not None:
            self._life.listener.touch(topic)

    @property
    def connected(self) -> bool:
        """Also true where no runtime lives in this process: there is nothing to be connected."""
        life = self._life
        return life is None or (life.listener.connected and not life.publisher.backoff.failing)

    def statistics(self) -> dict[str, int]:
        life = self._life
        return super().statistics() | ({} if life is None else life.statistics())


class _Life:
    """What the bus is made of while a runtime lives; on the runtime's loop."""

    def __init__(
        self,
        bus: RedisBus,
        server: _Server,
        prefix: str,
        sender: UUID,
        on_cancel: Callable[[UUID], None],
    ) -> None:
        self._sender = sender
        self._on_cancel = on_cancel
        self._tasks: list[asyncio.Task[None]] = []
        self.heard_count = 0
        self.malformed_count = 0

        def channel(topic: str) -> str:
            return f"{prefix}:{topic}"

        self.publisher = Publisher(server.open, server.describe, channel)
        self._follower = Follower(bus.deliver)
        self.listener = Listener(
            server.open,
            server.describe,
            channel,
            always=CANCELS,
            watched=bus.watched,
            is_watched=bus.is_watched,
            heard=self._heard,
            joined=self._follower.joined,
        )

    def begin(self, ledger: Ledger) -> None:
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
        """Sends what waits, if the server is there, and closes both connections."""
        await self.publisher.flush(FLUSH_PATIENCE)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close in the loop's next turn

    def tell(self, snapshot: TaskSnapshot) -> None:
        """Has others hear of a snapshot. From any thread."""
        addressed = topics(snapshot)
        if snapshot.cancel_requested and not snapshot.is_final:
            addressed = (*addressed, CANCELS)
        self.publisher.put(Parcel(news_of(snapshot, self._sender), addressed, snapshot.is_final))

    def _heard(self, topic: str, data: Any) -> None:
        news = decode(data)
        if news is None:
            self.malformed_count += 1
        elif news.by != self._sender:
            self.heard_count += 1
            if topic == CANCELS:
                self._on_cancel(news.id)
            else:
                self._follower.heard(news)

    def statistics(self) -> dict[str, int]:
        publisher, listener = self.publisher, self.listener
        return {
            "sent": publisher.sent_count,
            "waiting": publisher.waiting,
            "dropped": publisher.dropped_count,
            "heard": self.heard_count,
            "malformed": self.malformed_count + listener.strange_count,
            "reread": self._follower.read_count,
            "connections": listener.connections_count,
            "failures": publisher.backoff.failures + listener.backoff.failures,
        }


class _Server:
    """Opens connections to the server of a URL. The URL may hold a password: nothing shows it."""

    def __init__(self, url: str) -> None:
        try:
            # A channel belongs to no database, and the listener sends its own pings.
            self._address = RedisAddress(url, db=0, health_check_interval=0)
        except ImportError as error:
            raise ConfigurationError(
                'The redis bus needs the package redis: pip install "rail_async_tasks[redis]".'
            ) from error

    async def open(self) -> _Link:
        connection = self._address.connection()
        link = _Link(connection)
        try:
            await connection.connect()
        except BaseException:
            await link.close()
            raise
        return link

    def describe(self, error: BaseException) -> str:
        text = str(error) or type(error).__name__
        for secret in self._address.secrets:
            text = text.replace(secret, "***")
        return text


class _Link:
    """See `link.Link`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        _open_connections.add(connection)

    async def send(self, commands: Sequence[Command]) -> None:
        self._must_be_open()
        packed = self._connection.pack_commands(commands)
        await self._connection.send_packed_command(packed, check_health=False)

    async def receive(self) -> Any:
        self._must_be_open()
        return await self._connection.read_response()

    async def is_fresh(self) -> bool:
        try:
            return not await self._connection.can_read_destructive()
        except Exception:  # noqa: BLE001 (whatever the driver raises)
            return False

    def _must_be_open(self) -> None:
        """redis-py would connect anew, behind our back."""
        if not self._connection.is_connected:
            raise ConnectionResetError("The connection was closed")

    async def close(self) -> None:
        _open_connections.discard(self._connection)
        with contextlib.suppress(Exception):
            await self._connection.disconnect(nowait=True)  # does not wait, cancelled or not
