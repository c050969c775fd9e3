"""Makes error and progress messages fit for every database and every JSON reader."""

from __future__ import annotations

import re
import traceback

from rail_async_tasks.hooks import asks_to_end

MAX_ERROR_BYTES = 4096
MAX_TRACEBACK_BYTES = 16384
MAX_MESSAGE_BYTES = 2048
MAX_TYPE_BYTES = 255

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Returns whether every database stores the text: no NUL, no unpaired surrogate."""
    return _UNSTORABLE.search(text) is None


def clean(text: str, max_bytes: int) -> str:
    """Returns `text` fit for every database and JSON reader, cut to `max_bytes` of UTF-8.

    Replaces NUL, which PostgreSQL refuses, and unpaired surrogates, which UTF-8 lacks. A cut text
    ends in an ellipsis.
    """
    # The method of `str` itself: what an exception's `__str__` returns may be a subclass.
    raw = str.replace(text, "\0", "\ufffd").encode("utf-8", "replace")
    if len(raw) <= max_bytes:
        return raw.decode()
    return raw[: max_bytes - 3].decode("utf-8", "ignore") + "…"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Returns the number and its noun: "1 task", "0 tasks", "2 bodies" with the plural given."""
    return f"{number} {noun_for(number, noun, plural)}"


def noun_for(number: int, noun: str, plural: str | None = None) -> str:
    """Returns the form of the noun that goes with the number; by default the plural ends in s."""
    return noun if number == 1 else plural or f"{noun}s"


def sentence(text: object) -> str:
    """Returns a text, such as an error's, with one full stop at its end."""
    return f"{str(text).rstrip('. ')}."


def describe(error: BaseException) -> str:
    """Returns `str(error)`, or the name of its type if that is empty or itself raises."""
    try:
        text = str.__str__(str(error))  # a subclass of `str` may have code of its own, too
    except BaseException as raised:
        if asks_to_end(raised):
            raise
        text = f"{type(error).__name__} (its __str__ raised)"
    return clean(text or type(error).__name__, MAX_ERROR_BYTES)


def type_name(error: BaseException) -> str:
    """Returns the name of the error's class, fit for its column."""
    return clean(type(error).__name__, MAX_TYPE_BYTES)


def format_traceback(error: BaseException) -> str:
    """Returns the traceback as text. A cut keeps its end, where the error is."""
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException as raised:
        if asks_to_end(raised):
            raise
        text = f"{type(error).__name__} (its traceback can't be formatted)"
    if len(text) > MAX_TRACEBACK_BYTES:
        text = "…" + text[-MAX_TRACEBACK_BYTES // 2 :]
    return clean(text, MAX_TRACEBACK_BYTES)
