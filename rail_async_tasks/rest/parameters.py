"""Reads query parameters, bodies and `Last-Event-ID` of requests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from django.http import HttpRequest, QueryDict
from django.http.multipartparser import MultiPartParserError

from rail_async_tasks.errors import InvalidArguments
from rail_async_tasks.service import MAX_PAGE
from rail_async_tasks.states import Status
from rail_async_tasks.text import clean

PAGE_SIZE: Final = 50

# The list's parameters, each with its JSON Schema.
LIST_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "status": {"type": "string", "enum": [status.value for status in Status]},
    "name": {"type": "string"},
    "queue": {"type": "string"},
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE_SIZE},
    "after": {
        "type": "string",
        "format": "uuid",
        "description": "The `next` of the page before.",
    },
}

_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")

# Digits of ASCII: `int()` also takes others, signs, spaces and underscores.
_LIMIT: Final = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_VERSION: Final = re.compile(r"([0-9]{1,15})\.([0-9]{1,15})", re.ASCII)


def read_parameters(query: QueryDict, known: Mapping[str, Any]) -> dict[str, str]:
    """Returns the parameters that are not empty.

    Raises `InvalidArguments`, which names the parameter that is unknown, given twice, or no text.
    """
    unknown = sorted(set(query) - set(known))
    if unknown:
        takes = f"Known are {', '.join(known)}." if known else "There are none here."
        raise InvalidArguments(
            clean(f"Unknown parameter: {', '.join(unknown)}", 500) + f". {takes}"
        )
    found: dict[str, str] = {}
    for name in query:
        values = query.getlist(name)
        if len(values) > 1:
            raise InvalidArguments(f"{name} is given more than once.")
        if "\0" in values[0]:
            raise InvalidArguments(f"{name} has a NUL character.")
        if values[0]:
            found[name] = values[0]
    return found


def read_limit(text: str | None) -> int:
    """Returns the number of tasks on a page. Raises `InvalidArguments`."""
    if text is None:
        return PAGE_SIZE
    if _LIMIT.fullmatch(text) is None or int(text) > MAX_PAGE:
        raise InvalidArguments(f"limit must be a number from 1 to {MAX_PAGE}.")
    return int(text)


def refuse_body(request: HttpRequest) -> None:
    """Raises `InvalidArguments` for a body with content: no POST here takes arguments.

    Clients that cannot send a POST without a body send an empty object or form; a form may have
    the CSRF token.
    """
    if not (request.body.strip() and _asks_for_something(request)):
        return
    raise InvalidArguments("The body must be empty, or an empty JSON object.")


def _asks_for_something(request: HttpRequest) -> bool:
    if request.content_type in _FORMS:
        try:
            return bool({*request.POST, *request.FILES} - {"csrfmiddlewaretoken"})
        except MultiPartParserError:
            return True
    try:
        return bool(msgspec.json.decode(request.body) != {})
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True


def last_version(request: HttpRequest) -> tuple[int, int]:
    """Returns the version in `Last-Event-ID` of a reconnecting client, else the lowest."""
    match = _VERSION.fullmatch(request.headers.get("Last-Event-ID", "").strip())
    return (0, 0) if match is None else (int(match[1]), int(match[2]))
