"""What each client has open in this process: sockets and streams, by user and by address."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from threading import Lock
from typing import Any, Final
from weakref import finalize

from rail_async_tasks.access import user_id_of
from rail_async_tasks.auth.bearer import scope_of
from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import TooMany


class Place:
    """One open connection among those that a limit counts. Closing it twice does nothing."""

    __slots__ = ("_counts", "_key", "_open")

    def __init__(self, counts: OpenConnections, key: str | None) -> None:
        self._counts, self._key, self._open = counts, key, key is not None

    def close(self) -> None:
        """Makes room for another one."""
        if self._open and self._key is not None:
            self._open = False
            self._counts.closed(self._key)

    def close_with(self, response: Any) -> None:
        """Closes it with a response whose client may go before the first event is asked for."""
        finalize(response, self.close)


class OpenConnections:
    """Connections of one kind that are open in this process, counted by one limit.

    Args:
        limit: the key in `limits`.
        what: what the message calls them, a plural.
    """

    def __init__(self, limit: str, what: str) -> None:
        self._limit, self._what = limit, what
        self._counts: Counter[str] = Counter()
        self._lock = Lock()

    def open(self, key: str | None) -> Place:
        """Counts a connection of the user or address; None: of a client that can't be counted.

        Raises `TooMany`, which names the limit.
        """
        most = getattr(get_settings().limits, self._limit)
        if key is None or most is None:
            return Place(self, None)
        with self._lock:
            if self._counts[key] >= most:
                raise TooMany(
                    f'As many {self._what} are open as limits["{self._limit}"] allows: {most}.'
                    " Close one."
                )
            self._counts[key] += 1
        return Place(self, key)

    def closed(self, key: str) -> None:
        """Counts one less."""
        with self._lock:
            self._counts[key] -= 1
            if self._counts[key] <= 0:
                del self._counts[key]

    def __len__(self) -> int:
        return self._counts.total()


sockets_of_users: Final = OpenConnections("sockets_per_user", "sockets of this user")
sockets_of_addresses: Final = OpenConnections("sockets_per_address", "sockets of this address")
streams: Final = OpenConnections("streams_per_user", "streams of this caller")


def user_key(user: Any) -> str | None:
    """Returns what a user is counted by; None for an anonymous one."""
    user_id = user_id_of(user)
    return None if user_id is None else f"user {user_id}"


def caller_key(user: Any, request: Any) -> str | None:
    """Returns what a caller is counted by: the user; without one, the address."""
    return user_key(user) or address_key(connection_of(request))


def connection_of(request: Any) -> Mapping[str, Any]:
    """Returns the ASGI scope of a request; under WSGI the part of one that an address needs."""
    scope = scope_of(request)
    environ = getattr(request, "META", None)
    if scope or not environ:
        return scope
    peer, forwarded = environ.get("REMOTE_ADDR"), environ.get("HTTP_X_FORWARDED_FOR")
    return {
        "client": (peer, 0) if peer else None,
        "headers": [(b"x-forwarded-for", forwarded.encode("latin-1"))] if forwarded else [],
    }


def address_key(scope: Mapping[str, Any]) -> str | None:
    """Returns what the client of an ASGI scope is counted by; None where it has no address.

    Of IPv6 that is the network of 64 bits: one customer of a provider has at least so much, and
    would otherwise count as a new client with each connection.
    """
    address = client_address(scope)
    if address is None:
        return None
    found = _parsed(address)
    if isinstance(found, IPv6Address):
        return f"address {ip_network((found.packed, 64), strict=False)}"
    return f"address {found or address}"


def client_address(scope: Mapping[str, Any]) -> str | None:
    """Returns the address of a client.

    It is the one that the server has in the scope, a proxy's say. Where that is one of
    `trusted_proxies`, it is the last one in `X-Forwarded-For` that is not: the proxies have added
    what follows, and the client may have written what precedes.
    """
    client = scope.get("client")
    peer = None if not client else str(client[0])
    if peer is None or not _is_trusted(peer):
        return peer
    forwarded = [
        part.strip()
        for name, value in scope.get("headers", ())
        if name.lower() == b"x-forwarded-for"
        for part in value.decode("latin-1").split(",")
    ]
    for address in reversed(forwarded):
        if _parsed(address) is None:
            return peer
        peer = address
        if not _is_trusted(address):
            break
    return peer


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """Returns the address; of IPv4 also where a socket of both families writes it as IPv6."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _is_trusted(text: str) -> bool:
    proxies = get_settings().trusted_proxies
    address = _parsed(text) if proxies else None
    return address is not None and any(address in network for network in proxies)
