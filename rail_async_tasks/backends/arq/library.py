"""The parts of arq that the backend uses. The only module that imports arq.

`backend.library` imports it, and names the extra where arq is missing.
"""

from __future__ import annotations

from typing import Final

from arq.connections import ArqRedis
from arq.worker import Worker, func

from rail_async_tasks.redis_address import RedisAddress

__all__ = ["ArqRedis", "Worker", "connect", "func"]

# For each answer, in seconds: it finds a socket that is open at this end only.
ANSWER_TIMEOUT_SECONDS: Final = 3.0


def connect(url: str) -> ArqRedis:
    """Return a client of the server; it opens connections when it needs them.

    Raises:
        ConfigurationError: redis-py cannot read the URL.
    """
    address = RedisAddress(url, answer_timeout=ANSWER_TIMEOUT_SECONDS)
    return address.client(ArqRedis)
