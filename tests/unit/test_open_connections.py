"""Counts of open connections, and whose address a client has behind proxies."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.test import RequestFactory

from rail_async_tasks.auth.open_connections import (
    OpenConnections,
    address_key,
    caller_key,
    client_address,
)
from rail_async_tasks.errors import TooMany


@pytest.fixture
def configure(settings: Any) -> Any:
    def set_(**values: Any) -> None:
        settings.RAIL_DJANGO_GRAPHQL = {"task_settings": values}

    return set_


def test_one_too_many_is_refused_until_another_closes(configure: Any) -> None:
    """Each user by themselves; a place that is closed twice makes room once."""
    configure(limits={"streams_per_user": 2})
    counts = OpenConnections("streams_per_user", "streams")
    first, _ = counts.open("a"), counts.open("a")
    counts.open("b")
    with pytest.raises(
        TooMany, match=r'streams are open as limits\["streams_per_user"\] allows: 2'
    ):
        counts.open("a")
    first.close()
    first.close()
    counts.open("a")
    with pytest.raises(TooMany):
        counts.open("a")


def test_none_lifts_the_limit_and_counts_no_caller(configure: Any) -> None:
    """A caller without user and address is not counted either."""
    counts = OpenConnections("streams_per_user", "streams")
    configure(limits={"streams_per_user": None})
    counts.open("a")
    configure(limits={"streams_per_user": 1})
    counts.open(None)
    counts.open(None)
    assert len(counts) == 0


def test_a_response_without_a_reader_frees_its_place(configure: Any) -> None:
    """The client went before the first event: no generator has begun, so none ends."""
    configure()
    counts = OpenConnections("streams_per_user", "streams")

    class Response: ...

    response = Response()
    counts.open("a").close_with(response)
    assert len(counts) == 1
    del response
    gc.collect()
    assert len(counts) == 0


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "address"),
    [
        ("9.9.9.9", "1.1.1.1", [], "9.9.9.9"),
        ("9.9.9.9", "1.1.1.1", ["10.0.0.0/8"], "9.9.9.9"),
        ("10.0.0.1", "1.1.1.1", ["10.0.0.0/8"], "1.1.1.1"),
        ("10.0.0.1", "6.6.6.6, 1.1.1.1", ["10.0.0.0/8"], "1.1.1.1"),
        ("10.0.0.1", "6.6.6.6, 1.1.1.1, 10.0.0.2", ["10.0.0.0/8"], "1.1.1.1"),
        ("10.0.0.1", "1.1.1.1, forged", ["10.0.0.0/8"], "10.0.0.1"),
        ("10.0.0.1", "", ["10.0.0.0/8"], "10.0.0.1"),
        ("::ffff:10.0.0.1", "1.1.1.1", ["10.0.0.0/8"], "1.1.1.1"),
        ("unix", "1.1.1.1", ["10.0.0.0/8"], "unix"),
        (None, "1.1.1.1", ["10.0.0.0/8"], None),
    ],
)
def test_a_header_counts_only_from_a_trusted_proxy(
    configure: Any, peer: Any, forwarded: str, proxies: list[str], address: Any
) -> None:
    """And only its last part that no proxy of ours has: the rest may be the client's own."""
    configure(trusted_proxies=proxies)
    scope = {
        "client": None if peer is None else (peer, 1),
        "headers": [(b"x-forwarded-for", forwarded.encode())],
    }
    assert client_address(scope) == address


@pytest.mark.parametrize(
    ("peer", "key"),
    [
        ("9.9.9.9", "address 9.9.9.9"),
        ("::ffff:9.9.9.9", "address 9.9.9.9"),
        ("2001:db8:1:2:3::4", "address 2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "address 2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "address 2001:db8:1:3::/64"),
        ("unix", "address unix"),
        (None, None),
    ],
)
def test_an_ipv6_client_is_its_network(configure: Any, peer: str | None, key: str | None) -> None:
    """It could take another of its 2**64 addresses for each connection."""
    configure()
    assert address_key({"client": None if peer is None else (peer, 1), "headers": []}) == key


def test_a_wsgi_request_has_an_address(configure: Any) -> None:
    """By the same rule."""
    configure(trusted_proxies=["10.0.0.0/8"])
    headers = {"HTTP_X_FORWARDED_FOR": "6.6.6.6, 1.1.1.1"}
    near, far = ({"REMOTE_ADDR": it, **headers} for it in ("10.0.0.1", "9.9.9.9"))
    user = AnonymousUser()
    assert caller_key(user, RequestFactory().get("/", **near)) == "address 1.1.1.1"
    assert caller_key(user, RequestFactory().get("/", **far)) == "address 9.9.9.9"
