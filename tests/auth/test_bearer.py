"""Where a bearer is looked for, and what counts as one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.test import RequestFactory

from rail_async_tasks.auth.bearer import MAX_TOKEN_BYTES, Bearer, bearer_of


def found(header: str | None = None, **payload: Any) -> str | None:
    """The token; "bad" for a bearer that is none, "" where there is no bearer."""
    headers = {} if header is None else {"authorization": header}
    bearer = bearer_of(RequestFactory().get("/", headers=headers), payload)
    return "" if bearer is None else bearer.token or "bad"


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, ""),
        ("", ""),
        ("Bearer a.b.c", "a.b.c"),
        ("bearer a.b.c", "a.b.c"),
        ("BEARER   a.b.c  ", "a.b.c"),
        (" Bearer a.b_-c+/~=", "a.b_-c+/~="),
        ("Bearer", "bad"),
        ("Bearer ", "bad"),
        ("Bearer a b", "bad"),
        ("Bearer a,b", "bad"),
        ("Bearer \u00e9", "bad"),
        ("Bearer a.b.c, Bearer a.b.c", "bad"),
        ("Basic abc,Bearer a.b.c", "bad"),
        ("Basic abc, bearer", "bad"),
        ("Basic abc", ""),
        ("Bearer2 a.b.c", ""),
        ("Token bearer", ""),
        ('Digest username="Bearer a"', ""),
        ("Bearer " + "a" * (MAX_TOKEN_BYTES - 7), "a" * (MAX_TOKEN_BYTES - 7)),
        ("Bearer " + "a" * (MAX_TOKEN_BYTES - 6), "bad"),
    ],
    ids=lambda it: repr(it)[:40],
)
def test_the_header(header: str | None, token: str) -> None:
    """The scheme in any letters, one token; other schemes are not looked at."""
    assert found(header) == token


@pytest.mark.parametrize(
    ("payload", "token"),
    [
        ({}, ""),
        ({"token": "Bearer a.b.c"}, ""),
        ({"authorization": "Bearer a.b.c"}, "a.b.c"),
        ({"Authorization": "bearer a.b.c"}, "a.b.c"),
        ({"authorization": "a.b.c"}, "bad"),
        ({"authorization": "Basic abc"}, "bad"),
        ({"authorization": ""}, "bad"),
        ({"authorization": None}, "bad"),
        ({"authorization": 7}, "bad"),
        ({"authorization": ["Bearer a.b.c"]}, "bad"),
        ({"authorization": "Bearer a", "AUTHORIZATION": "Bearer a"}, "bad"),
    ],
    ids=str,
)
def test_the_payload(payload: dict[str, Any], token: str) -> None:
    """Its key in any letters, and nothing but a bearer there."""
    assert found(**payload) == token


def test_both_must_agree() -> None:
    """A header and a payload name one caller, or none."""
    assert found("Bearer a", authorization="Bearer a") == "a"
    assert found("Bearer a", authorization="Bearer b") == "bad"
    assert found("Bearer a", authorization=None) == "bad"
    assert found("Basic a", authorization="Bearer b") == "b"


def test_the_scope_of_a_channels_consumer() -> None:
    """Also where a project serves our types by its own consumer."""
    scope = {"headers": [(b"host", b"x"), (b"Authorization", b"Bearer a.b.c")]}
    for request in (
        SimpleNamespace(scope=scope),
        SimpleNamespace(consumer=SimpleNamespace(scope=scope)),
    ):
        bearer = bearer_of(request)
        assert bearer is not None
        assert bearer.token == "a.b.c"
    assert bearer_of(None) is None
    assert bearer_of(SimpleNamespace()) is None


def test_its_repr_shows_nothing() -> None:
    """Logs and error pages print variables."""
    assert repr(Bearer("a.b.c")) == str(Bearer("a.b.c")) == "<Bearer>"
