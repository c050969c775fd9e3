"""Finds the bearer token of a request or a socket; verifies nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from django.http import HttpRequest

# Tokens with many groups have a few KiB, and servers take headers of 8 to 64 KiB in all.
MAX_TOKEN_BYTES: Final = 16 * 1024

# Also after a comma: that is how servers join headers that were sent twice.
_A_BEARER: Final = re.compile(r"(?:^|,)\s*bearer(?=[\s,]|$)", re.IGNORECASE)
_ONE_BEARER: Final = re.compile(r"\s*bearer +([A-Za-z0-9._~+/=-]+)\s*", re.IGNORECASE)


class Bearer:
    """A bearer as it was sent. Its repr hides it from logs and error pages.

    `token` is None where it cannot be one: empty, too long, of other characters, or sent twice.
    """

    __slots__ = ("token",)

    def __init__(self, token: str | None) -> None:
        self.token = token

    def __repr__(self) -> str:
        return "<Bearer>"


def bearer_of(request: Any, connection_params: Mapping[str, Any] | None = None) -> Bearer | None:
    """Returns the bearer of the `Authorization` header, or of the payload of a WebSocket.

    None where there is none; other schemes of the header are not ours. Where both places
    have one, it must be the same.
    """
    in_header = _in_header(_authorization(request))
    in_payload = _in_payload(connection_params or {})
    if in_header is None or in_payload is None:
        return in_header or in_payload
    return in_payload if in_header.token == in_payload.token else Bearer(None)


def _in_header(value: str | None) -> Bearer | None:
    return _parsed(value) if value is not None and _A_BEARER.search(value) else None


def _in_payload(params: Mapping[str, Any]) -> Bearer | None:
    """Returns the payload's bearer; any other value there is a bad credential."""
    given = [value for name, value in params.items() if name.lower() == "authorization"]
    if not given:
        return None
    return _parsed(given[0]) if len(given) == 1 and isinstance(given[0], str) else Bearer(None)


def _parsed(value: str) -> Bearer:
    found = _ONE_BEARER.fullmatch(value) if len(value) <= MAX_TOKEN_BYTES else None
    return Bearer(found and found[1])


def _authorization(request: Any) -> str | None:
    """Returns the header of a Django request, or of a Channels consumer or its request."""
    if isinstance(request, HttpRequest):
        value: str | None = request.META.get("HTTP_AUTHORIZATION")
        return value
    values = [
        value.decode("latin-1")
        for name, value in scope_of(request).get("headers", ())
        if name.lower() == b"authorization"
    ]
    return ",".join(values) if values else None


def scope_of(request: Any) -> Mapping[str, Any]:
    """Returns the ASGI scope of a view's request, or an empty one."""
    source = request if hasattr(request, "scope") else getattr(request, "consumer", None)
    scope: Mapping[str, Any] = getattr(source, "scope", {})
    return scope
