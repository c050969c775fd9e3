"""The outcome of an action, carried to the next page in its URL.

Signed, so that a stranger's link can't put words on the page.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from django.core import signing
from django.http import HttpRequest
from django.utils.http import urlencode

_PARAMETER: Final = "notice"
_SALT: Final = "rail_async_tasks.dashboard.notice"
_SECONDS: Final = 60


def with_notice(url: str, text: str) -> str:
    """Returns the URL of a page that shows the text, in place of another one that it showed."""
    bare = urlsplit(without_notice(url))
    pairs = [*parse_qsl(bare.query, keep_blank_values=True), (_PARAMETER, _signed(text))]
    return urlunsplit(bare._replace(query=urlencode(pairs)))


def without_notice(url: str) -> str:
    """Returns the URL of the same page without a text."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = urlencode([pair for pair in pairs if pair[0] != _PARAMETER])
    return urlunsplit(parts._replace(query=query))


def notice_of(request: HttpRequest) -> str:
    """Returns the text that the URL carries; empty for a forged or an old one."""
    try:
        text = signing.loads(request.GET.get(_PARAMETER, ""), salt=_SALT, max_age=_SECONDS)
    except signing.BadSignature:
        return ""
    return str(text)


def _signed(text: str) -> str:
    return signing.dumps(text, salt=_SALT)
