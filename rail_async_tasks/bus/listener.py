"""Receives the events of other processes, on one connection for all topics watched here."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rail_async_tasks.bus.connection import Command, Connection, Describe, Open
from rail_async_tasks.bus.failures import bus_backoff

# All in seconds. Between two pings, and without any answer before the connection counts as dead:
# a connection that is dead on the other side only is noticed after their sum.
PING_EVERY = 2.5
SILENCE_TIMEOUT = 5.0
CONNECT_TIMEOUT = 3.0
# Topics in one command.
CHUNK = 500
# Messages in a row, after which other tasks of the loop get a turn.
TURN = 100
# Between two changes of the subscriptions, in seconds: a crowd that joins is one command.
PAUSE = 0.005


class Listener:
    """Runs on one event loop; `touch` may be called from any thread."""

    def __init__(
        self,
        open_connection: Open,
        describe: Describe,
        channel: Callable[[str], str],
        *,
        always: Sequence[str],
        watched: Callable[[], list[str]],
        is_watched: Callable[[str], bool],
        received: Callable[[str, Any], None],
        joined: Callable[[str], None],
    ) -> None:
        """
        Args:
            open_connection: opens a connection.
            describe: returns an error's text for the log.
            channel: returns the channel of a topic.
            always: topics that are received without a watcher, too.
            watched: returns the topics that have watchers here.
            is_watched: returns whether a topic has one.
            received: is called with the topic and the data of each event.
            joined: is called once the subscription to a topic has begun.
        """
        self._open = open_connection
        self._describe = describe
        self._channel = channel
        self._always = always
        self._watched = watched
        self._is_watched = is_watched
        self._received = received
        self._joined = joined
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._touched: set[str] = set()  # topics whose watchers have come or gone
        self._changed = asyncio.Event()
        self._subscribed: set[str] = set()
        self.connected = False
        self.backoff = bus_backoff("Listening to Redis failed")
        self.connections_count = 0
        self.strange_count = 0  # answers that this protocol does not have

    def touch(self, topic: str) -> None:
        """Notes that watchers of the topic came or went. From any thread."""
        with self._lock:
            is_first = not self._touched
            self._touched.add(topic)
        if is_first:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._changed.set)

    async def run(self) -> None:
        """Receives events until it is cancelled. Connects again after any failure."""
        while True:
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001 (whatever the driver raises)
                self.connected = False
                await asyncio.sleep(self.backoff.failed(self._describe(error)))
            finally:
                self.connected = False

    async def _listen(self) -> None:
        """Connects, subscribes, and receives events until the connection fails."""
        async with asyncio.timeout(CONNECT_TIMEOUT):
            connection = await self._open()
        try:
            self.connections_count += 1
            self._subscribed = set()
            with self._lock:
                self._touched.clear()
            wanted = [*self._always, *self._watched()]
            self._subscribed.update(wanted)
            await connection.send(list(self._commands("SUBSCRIBE", wanted)))
            await _first_to_fail(self._receive(connection), self._maintain(connection))
        finally:
            await connection.close()

    async def _receive(self, connection: Connection) -> None:
        for number in itertools.count(1):
            async with asyncio.timeout(SILENCE_TIMEOUT):
                answer = await connection.receive()
            self._handle(answer)
            if number % TURN == 0:
                await asyncio.sleep(0)

    def _handle(self, answer: Any) -> None:
        match answer:
            case [b"message", bytes(channel), data]:
                self._received(self._topic(channel), data)
            case [b"subscribe", bytes(channel), _]:
                topic = self._topic(channel)
                if topic in self._always:
                    self.connected = True
                    self.backoff.recovered()
                else:
                    self._joined(topic)
            case [b"unsubscribe", _, _] | [b"pong", _] | b"PONG":
                pass
            case _:
                self.strange_count += 1

    async def _maintain(self, connection: Connection) -> None:
        """Sends pings, and subscribes and unsubscribes as watchers come and go."""
        ping_at = self._loop.time() + PING_EVERY
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(ping_at):
                    await self._changed.wait()
            if self._changed.is_set():
                self._changed.clear()
                await self._send(connection, list(self._changes()))
                await asyncio.sleep(PAUSE)
            if self._loop.time() >= ping_at:
                await self._send(connection, [("PING",)])
                ping_at = self._loop.time() + PING_EVERY

    async def _send(self, connection: Connection, commands: list[Command]) -> None:
        if commands:
            # The buffer of a dead connection may stay full.
            async with asyncio.timeout(SILENCE_TIMEOUT):
                await connection.send(commands)

    def _changes(self) -> Iterator[Command]:
        with self._lock:
            touched, self._touched = self._touched, set()
        come = {it for it in touched - self._subscribed if self._is_watched(it)}
        gone = {it for it in touched & self._subscribed if not self._is_watched(it)}
        self._subscribed |= come
        self._subscribed -= gone
        yield from self._commands("SUBSCRIBE", come)
        yield from self._commands("UNSUBSCRIBE", gone)

    def _commands(self, verb: str, topics: Iterable[str]) -> Iterator[Command]:
        channels = [self._channel(topic) for topic in topics]
        for start in range(0, len(channels), CHUNK):
            yield (verb, *channels[start : start + CHUNK])

    def _topic(self, channel: bytes) -> str:
        return channel.decode("utf-8", "replace").removeprefix(self._channel(""))


async def _first_to_fail(*coroutines: Any) -> None:
    """Runs coroutines until one raises; raises that, with all others cancelled."""
    tasks = [asyncio.ensure_future(it) for it in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
