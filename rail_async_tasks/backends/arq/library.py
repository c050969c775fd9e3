"""What is used of arq, and of redis-py beneath it. The only module that imports arq.

Whoever imports it says what is missing when it can't be: see `backend.library`.
"""

from __future__ import annotations

from typing import Any, Final, cast

from arq.connections import ArqRedis
from arq.worker import Worker, func

from rail_async_tasks.errors import ConfigurationError

__all__ = ["ArqRedis", "Worker", "connect", "func"]

# What a server gets to take a connection, and to answer, in seconds. A socket that is open at this
# end only is found out by it.
CONNECT_PATIENCE: Final = 2.0
ANSWER_PATIENCE: Final = 3.0


def connect(url: str) -> ArqRedis:
    """A client of the server; it opens connections when it needs them.

    Raises:
        ConfigurationError: redis-py can't read the URL.
    """
    try:
        client = cast(ArqRedis, cast(Any, ArqRedis).from_url(url))
        pool = cast(Any, client.connection_pool)
        options = pool.connection_kwargs
        # How answers are read, and how long is waited for them, is not the URL's to decide.
        options.update(
            decode_responses=False, encoding="utf-8", protocol=2, retry_on_timeout=False,
            socket_timeout=ANSWER_PATIENCE, socket_connect_timeout=CONNECT_PATIENCE,
        )  # fmt: skip
        pool.make_connection()  # what it does not take it refuses here
    except Exception as error:  # noqa: BLE001 (a ValueError, a TypeError, its own errors)
        # Without the words of the error: they may quote the URL, and so a password.
        raise ConfigurationError(
            'task_settings["redis_url"] can\'t be read by redis-py'
            f" ({type(error).__name__}); see its parse_url for what it takes."
        ) from None
    return client
