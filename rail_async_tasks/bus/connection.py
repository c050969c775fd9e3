"""The port of a connection to a Redis server; `redis_connection` implements it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

Command = tuple[str | bytes, ...]


class Connection(Protocol):
    """One open connection. Raises the driver's errors; after an error it is of no more use."""

    async def send(self, commands: Sequence[Command]) -> None: ...

    async def receive(self) -> Any:
        """Returns the next answer: bytes, an int, or a list of them. Has no timeout of its own."""
        ...

    async def is_fresh(self) -> bool:
        """Returns False where the server has closed the connection or sent something unasked."""
        ...

    async def close(self) -> None: ...


# Opens a connection, ready for commands.
Open = Callable[[], Awaitable[Connection]]
# Returns the text of an error for the log, without secrets.
Describe = Callable[[BaseException], str]
