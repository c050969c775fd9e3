"""A connection to a Redis server, as far as the bus needs one. Who opens it is `redis.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

Command = tuple[str | bytes, ...]


class Link(Protocol):
    """One connection. It raises whatever its driver does; after that it is of no more use."""

    async def send(self, commands: Sequence[Command]) -> None: ...

    async def receive(self) -> Any:
        """The next answer: bytes, an int, or a list of them. Waits for as long as it takes."""
        ...

    async def is_fresh(self) -> bool:
        """Whether nothing has come that nobody asked for, such as the connection's end."""
        ...

    async def close(self) -> None: ...


# Opens one, ready for commands.
Open = Callable[[], Awaitable[Link]]
# What may be logged of an error.
Describe = Callable[[BaseException], str]
