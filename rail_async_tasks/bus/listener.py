"""Hears what other processes tell, on one connection for every topic that is watched here."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rail_async_tasks.bus.failures import bus_backoff
from rail_async_tasks.bus.link import Command, Describe, Link, Open

# A silent server is asked for a sign of life this often; one that gives none for so long is gone.
# Together they are how long a connection that is dead on one side only goes unnoticed, in seconds.
PING_EVERY = 2.5
SILENCE = 5.0
# What a connection gets to be made, in seconds.
PATIENCE = 3.0
# Topics in one command.
CHUNK = 500
# After so many messages in a row others get a turn on the loop.
TURN = 100
# Between two changes of what is heard, in seconds: a crowd that joins is one command.
PAUSE = 0.005


class Listener:
    """On one event loop, told from any thread whose topics have changed."""

    def __init__(
        self,
        open_link: Open,
        describe: Describe,
        channel: Callable[[str], str],
        *,
        always: str,
        watched: Callable[[], list[str]],
        is_watched: Callable[[str], bool],
        heard: Callable[[str, Any], None],
        joined: Callable[[str], None],
    ) -> None:
        """`always` is a topic that is heard even where nobody watches anything."""
        self._open = open_link
        self._describe = describe
        self._channel = channel
        self._always = always
        self._watched = watched
        self._is_watched = is_watched
        self._heard = heard
        self._joined = joined
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._touched: set[str] = set()  # topics whose watchers have come or gone
        self._changed = asyncio.Event()
        self._subscribed: set[str] = set()
        self.connected = False
        self.backoff = bus_backoff("Listening to Redis failed")
        self.connections_count = 0
        self.strange_count = 0  # answers that were none

    def touch(self, topic: str) -> None:
        """Watchers of the topic have come or gone. From any thread."""
        with self._lock:
            is_first = not self._touched
            self._touched.add(topic)
        if is_first:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
                self._loop.call_soon_threadsafe(self._changed.set)

    async def run(self) -> None:
        """Listens, and goes on after any failure. Ends by being cancelled."""
        while True:
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001 (whatever the driver raises)
                self.connected = False
                await asyncio.sleep(self.backoff.failed(self._describe(error)))
            finally:
                self.connected = False

    async def _listen(self) -> None:
        """One connection, to its end."""
        async with asyncio.timeout(PATIENCE):
            link = await self._open()
        try:
            self.connections_count += 1
            self._subscribed = set()
            with self._lock:
                self._touched.clear()
            wanted = [self._always, *self._watched()]
            self._subscribed.update(wanted)
            await link.send(list(self._commands("SUBSCRIBE", wanted)))
            await _first_to_fail(self._hear(link), self._keep(link))
        finally:
            await link.close()

    async def _hear(self, link: Link) -> None:
        for number in itertools.count(1):
            async with asyncio.timeout(SILENCE):
                answer = await link.receive()
            self._answered(answer)
            if number % TURN == 0:
                await asyncio.sleep(0)

    def _answered(self, answer: Any) -> None:
        match answer:
            case [b"message", bytes(channel), data]:
                self._heard(self._topic(channel), data)
            case [b"subscribe", bytes(channel), _]:
                topic = self._topic(channel)
                if topic == self._always:
                    self.connected = True
                    self.backoff.recovered()
                else:
                    self._joined(topic)
            case [b"unsubscribe", _, _] | [b"pong", _] | b"PONG":
                pass
            case _:
                self.strange_count += 1

    async def _keep(self, link: Link) -> None:
        """Pings, and subscribes as watchers come and go."""
        ping_at = self._loop.time() + PING_EVERY
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(ping_at):
                    await self._changed.wait()
            if self._changed.is_set():
                self._changed.clear()
                await self._send(link, list(self._changes()))
                await asyncio.sleep(PAUSE)
            if self._loop.time() >= ping_at:
                await self._send(link, [("PING",)])
                ping_at = self._loop.time() + PING_EVERY

    async def _send(self, link: Link, commands: list[Command]) -> None:
        if commands:
            # A full buffer is no reason to wait for ever.
            async with asyncio.timeout(SILENCE):
                await link.send(commands)

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
    """Runs these until one of them raises, which is raised; none of them is left behind."""
    tasks = [asyncio.ensure_future(it) for it in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
