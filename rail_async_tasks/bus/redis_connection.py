"""Connections of redis-py, as the bus uses them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from rail_async_tasks.bus.connection import Command
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.redis_address import RedisAddress

# The open connections. A forked child has copies that it must not finalize: asyncio would take the
# parent's sockets out of the parent's selector.
_open_connections: set[Any] = set()


class Connector:
    """Opens connections to the server of a URL. No message shows the URL's password."""

    def __init__(self, url: str) -> None:
        """
        Raises:
            ConfigurationError: redis-py is not installed, or cannot read the URL.
        """
        try:
            # A channel belongs to no database, and the listener sends its own pings.
            self._address = RedisAddress(url, db=0, health_check_interval=0)
        except ImportError as error:
            raise ConfigurationError(
                'The redis bus needs the package redis: pip install "rail_async_tasks[redis]".'
            ) from error

    async def open(self) -> RedisConnection:
        connection = self._address.connection()
        opened = RedisConnection(connection)
        try:
            await connection.connect()
        except BaseException:
            await opened.close()
            raise
        return opened

    def describe(self, error: BaseException) -> str:
        """Returns the error's text without the secrets of the URL."""
        text = str(error) or type(error).__name__
        for secret in self._address.secrets:
            text = text.replace(secret, "***")
        return text


class RedisConnection:
    """See `connection.Connection`."""

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
        """Raises where the connection is closed: redis-py would connect again by itself."""
        if not self._connection.is_connected:
            raise ConnectionResetError("The connection was closed")

    async def close(self) -> None:
        _open_connections.discard(self._connection)
        with contextlib.suppress(Exception):
            await self._connection.disconnect(nowait=True)  # does not wait, cancelled or not
