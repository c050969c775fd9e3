"""A table of WebSocket handshakes: accepted or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import RequestFactory

from rail_async_tasks.graphql.handshake import handshake_problem

HANDSHAKES = [
    # Host, Origin, accepted
    ("localhost", None, True),
    (None, None, True),
    ("localhost", "http://localhost", True),
    ("localhost:8000", "http://localhost:8000", True),
    ("localhost", "https://localhost", True),
    ("localhost:8000", "http://localhost:3000", False),
    ("localhost:8000", "http://127.0.0.1:8000", True),
    ("localhost:8000", "http://127.0.0.1:9", False),
    ("localhost", "http://127.0.0.1:8000", False),
    ("localhost", "https://localhost:8443", False),
    ("localhost:8000", "https://shop.example:8443", False),
    ("localhost", "http://localhost:99999", False),
    ("localhost", "http://127.0.0.1", True),
    ("localhost", "https://shop.example", True),
    ("localhost", "https://eu.shop.example", True),
    ("localhost", "http://shop.example", False),
    ("localhost", "https://evil.example", False),
    ("localhost", "https://localhost.evil.example", False),
    ("localhost", "https://notshop.example", False),
    ("localhost", "null", False),
    ("localhost", "", False),
    ("localhost", "http://[", False),
    ("localhost", "file://", False),
    ("evil.example", None, False),
    ("evil.example", "http://evil.example", False),
]


@pytest.mark.parametrize(("host", "origin", "accepted"), HANDSHAKES)
def test_which_handshakes_are_accepted(
    settings: Any, host: str | None, origin: str | None, accepted: bool
) -> None:
    """Same host, an allowed host or a trusted origin; no page of anywhere else, no unknown host."""
    settings.ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
    settings.CSRF_TRUSTED_ORIGINS = ["https://shop.example", "https://*.shop.example"]
    given = {"host": host, "origin": origin}
    headers = {name: value for name, value in given.items() if value is not None}
    request = RequestFactory().get("/graphql/", headers=headers)
    if host is None:
        request.META.pop("HTTP_HOST", None)
    assert (handshake_problem(request) is None) == accepted


def test_a_star_in_allowed_hosts_trusts_no_foreign_page(settings: Any) -> None:
    """It says that the proxy checks the Host; a page of elsewhere still has no business here."""
    settings.ALLOWED_HOSTS = ["*"]
    make: Callable[..., Any] = RequestFactory().get
    headers = {"host": "any.example", "origin": "https://evil.example"}
    assert handshake_problem(make("/", headers=headers)) is not None
    headers = {"host": "any.example", "origin": "https://any.example"}
    assert handshake_problem(make("/", headers=headers)) is None


def test_local_pages_may_connect_while_debugging(settings: Any) -> None:
    """As Django does where ALLOWED_HOSTS is empty: a dev server on another port."""
    settings.ALLOWED_HOSTS, settings.DEBUG = [], True
    make: Callable[..., Any] = RequestFactory().get
    headers = {"host": "localhost:8000", "origin": "http://localhost:5173"}
    assert handshake_problem(make("/", headers=headers)) is None
    headers = {"host": "localhost:8000", "origin": "https://evil.example"}
    assert handshake_problem(make("/", headers=headers)) is not None
