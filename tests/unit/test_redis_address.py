"""The one reading of `redis_url`."""

from __future__ import annotations

import pytest

from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.redis_address import CONNECT_TIMEOUT_SECONDS, RedisAddress

URL = "redis://ada:secret@example.test:6380/3"


def test_a_connection_has_what_the_url_names() -> None:
    """Host, port, database and credentials."""
    connection = RedisAddress(URL).connection()
    assert (connection.host, connection.port, connection.db) == ("example.test", 6380, 3)
    assert (connection.username, connection.password) == ("ada", "secret")


def test_formats_and_timeouts_are_not_the_urls_to_decide() -> None:
    """The bus and the scripts of `arq` read bytes, of protocol 2."""
    url = f"{URL}?decode_responses=yes&protocol=3&socket_timeout=60&socket_connect_timeout=60"
    connection = RedisAddress(url, answer_timeout=3.0).connection()
    assert connection.encoder.decode_responses is False
    assert int(connection.protocol) == 2
    assert connection.socket_timeout == 3.0
    assert connection.socket_connect_timeout == CONNECT_TIMEOUT_SECONDS


def test_a_url_may_ask_for_a_shorter_connect_timeout() -> None:
    """The bound is ours, less is the project's choice."""
    connection = RedisAddress(f"{URL}?socket_connect_timeout=0.5").connection()
    assert connection.socket_connect_timeout == 0.5


def test_options_override_the_url() -> None:
    """A channel belongs to no database."""
    assert RedisAddress(URL, db=0).connection().db == 0


def test_the_size_of_a_pool_concerns_clients_alone() -> None:
    """A connection of the bus is in no pool."""
    assert RedisAddress(f"{URL}?max_connections=7").connection().port == 6380


@pytest.mark.parametrize(
    "url",
    ["http://secret@here", "redis://:secret@here:port", f"{URL}?socket_timeout=often",
     f"{URL}?no_such_option=1", f"{URL}?max_connections=-1"],
)  # fmt: skip
def test_a_url_that_cannot_be_read_is_not_quoted(url: str) -> None:
    """The message names the setting; the URL may hold a password."""
    with pytest.raises(ConfigurationError, match=r'task_settings\["redis_url"\]') as caught:
        RedisAddress(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_secrets_are_known_so_that_logs_can_hide_them() -> None:
    """An error of redis-py may quote its options."""
    assert RedisAddress(URL).secrets == ["secret"]
