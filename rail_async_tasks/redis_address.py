"""The server that `task_settings["redis_url"]` names, for the bus and for the backend `arq`.

The only module that imports redis-py, which is an extra.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar, cast

from rail_async_tasks.errors import ConfigurationError

# For opening a connection, in seconds. The URL may ask for less.
CONNECT_TIMEOUT_SECONDS: Final = 2.0

Client = TypeVar("Client")


class RedisAddress:
    """Makes connections and clients. The URL may hold a password: no message shows it."""

    def __init__(self, url: str, *, answer_timeout: float | None = None, **options: Any) -> None:
        """Parse the URL.

        Args:
            url: as redis-py's `parse_url` reads it.
            answer_timeout: for each answer of the server, in seconds; None waits without end.
            options: of a connection; they override the URL's.

        Raises:
            ImportError: redis-py is not installed.
            ConfigurationError: redis-py cannot read the URL.
        """
        from redis.asyncio.connection import Connection, ConnectionPool, parse_url

        try:
            parsed: dict[str, Any] = dict(cast(Any, parse_url(url)))
            asked = parsed.get("socket_connect_timeout") or CONNECT_TIMEOUT_SECONDS
            # The format of answers and the timeouts are not the URL's to decide.
            parsed.update(
                decode_responses=False, encoding="utf-8", protocol=2, retry_on_timeout=False,
                socket_timeout=answer_timeout,
                socket_connect_timeout=min(asked, CONNECT_TIMEOUT_SECONDS),
            )  # fmt: skip
            parsed.update(options)
            parsed.setdefault("connection_class", Connection)
            self._pool_class, self._pool_options = ConnectionPool, parsed
            self._pool().make_connection()  # fails on options that redis-py does not know
        except Exception as error:  # noqa: BLE001 (a ValueError, a TypeError, its own errors)
            # Without the error's text, which may quote the URL and so a password.
            raise ConfigurationError(
                'task_settings["redis_url"] can\'t be read by redis-py'
                f" ({type(error).__name__}); see its parse_url for what it takes."
            ) from None
        self.secrets = [
            str(secret) for key in ("password", "ssl_password") if (secret := parsed.get(key))
        ]

    def connection(self) -> Any:
        """Return a new connection, not open yet, that belongs to no pool.

        Pools of newer redis-py use their connections for notices that protocol 2 does not have.
        """
        options = dict(self._pool_options)
        options.pop("max_connections", None)
        return options.pop("connection_class")(**options)

    def client(self, kind: type[Client]) -> Client:
        """Return a client of redis-py with a pool of its own, which connects on demand."""
        return cast(Any, kind).from_pool(self._pool())  # type: ignore[no-any-return]

    def _pool(self) -> Any:
        return cast(Any, self._pool_class)(**self._pool_options)
