"""Reads and decodes the body of a POST, which may be larger than it says, and no JSON."""

from __future__ import annotations

import json
from io import BytesIO

from cross_web import AsyncHTTPRequestAdapter
from django.http import HttpRequest

from rail_async_tasks.errors import TooLarge
from rail_async_tasks.graphql.documents import limits_in_force


async def read_body(adapter: AsyncHTTPRequestAdapter) -> str | bytes:
    """Returns the body. Raises `TooLarge` before more of it than the limit is in memory."""
    request, most = adapter.request, limits_in_force().request_bytes  # type: ignore[attr-defined]
    if most is not None:
        declared = request.META.get("CONTENT_LENGTH") or ""
        if declared.isdecimal() and int(declared) > most:
            raise _too_large(most)
        if not declared:  # sent in chunks: its size is known when it has been read
            body = request.read(most + 1)
            if len(body) > most:
                raise _too_large(most)
            request._body = body  # noqa: SLF001 - what `request.body` returns from now on
    return await adapter.get_body()


def decode_json(data: str | bytes) -> object:
    """`json.loads` for untrusted input, of frames too: every refusal is a `JSONDecodeError`."""
    try:
        return json.loads(data)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError) as error:  # not UTF-8, a huge number, deep nesting
        raise json.JSONDecodeError(str(error), "", 0) from error


def let_go(request: HttpRequest) -> None:
    """Frees the body of a request that is refused.

    Django's requests are cycles: else it would be in memory until the collector's next whole round,
    which comes after hundreds of requests.
    """
    request._body = b""  # noqa: SLF001
    request._stream = BytesIO()  # noqa: SLF001


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f'The body has more bytes than limits["request_bytes"] allows: {limit}.')
