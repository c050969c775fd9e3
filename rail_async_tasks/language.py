"""The language that an execution carries from the request that started it to its body.

A row has it only where it is not LANGUAGE_CODE, which a body runs in by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from django.conf import settings
from django.http import HttpRequest
from django.utils import translation

from rail_async_tasks.text import is_storable

T = TypeVar("T")

LOCALE_MIDDLEWARE: Final = "django.middleware.locale.LocaleMiddleware"

# In characters: the width of the column.
MAX_LANGUAGE: Final = 255


def language_to_carry() -> str | None:
    """Returns the active language; None where that is LANGUAGE_CODE, or none is active."""
    language = translation.get_language()
    if language is None or language == settings.LANGUAGE_CODE:
        return None
    language = str(language)
    return language if len(language) <= MAX_LANGUAGE and is_storable(language) else None


def activate(language: str) -> None:
    """Activates the language in the current context, unless it is none of LANGUAGES any more."""
    if _is_known(language):
        translation.activate(language)


def activate_for_socket(request: HttpRequest) -> None:
    """Activates the language of a WebSocket's handshake in the current context.

    Where the project has Django's `LocaleMiddleware`, which does not run for WebSockets.
    """
    if LOCALE_MIDDLEWARE in settings.MIDDLEWARE:
        of_path = translation.get_language_from_path(request.path_info)
        translation.activate(of_path or translation.get_language_from_request(request))


def speaking(language: str, call: Callable[[], T]) -> T:
    """Calls in the language, in a thread and in a context of the call's own.

    `activate` on a loop does not reach its threads, though they get a copy of its context:
    asgiref's `Local`, in which Django keeps the active language, has a value per thread.
    """
    activate(language)
    return call()


@contextmanager
def in_language(language: str | None) -> Iterator[None]:
    """Runs a block in the language, or in LANGUAGE_CODE, and puts the caller's back."""
    known = language is not None and _is_known(language)
    with translation.override(language if known else settings.LANGUAGE_CODE):
        yield


def _is_known(language: str) -> bool:
    try:
        translation.get_supported_language_variant(language)
    except LookupError:
        return False
    return True
