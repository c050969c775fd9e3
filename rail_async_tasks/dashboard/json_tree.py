"""JSON as HTML that folds: objects and lists as `<details>`, addresses as links. Pure.

Everything in a result is what a body returned, so every piece is escaped. Only `http:` and `https:`
addresses, and the project's own media and static files, become links.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from rail_async_tasks.text import counted

# Items of one object or list that are shown; the raw JSON has them all.
MOST_ITEMS: Final = 200
# Items of a whole tree.
MOST_NODES: Final = 2000
# Levels and items that are open at first.
OPEN_LEVELS: Final = 2
OPEN_ITEMS: Final = 20
# Characters of a text that is shown whole.
LONG_TEXT: Final = 400

_URL: Final = re.compile(r"https?://[^\s<>\"'\\^`{|}]+", re.IGNORECASE)
_IMAGES: Final = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".avif"})


def json_tree(value: Any) -> SafeString:
    """Returns a JSON value as HTML."""
    return mark_safe("".join(_Tree().node(value, 0)))  # noqa: S308 - each piece is escaped


def pretty(value: Any) -> str:
    """Returns the whole JSON as text, indented."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def link_of(text: str) -> tuple[str, str] | None:
    """Returns the address and the kind (`image`, `file` or `link`) of a text that is one.

    That is an absolute http or https URL, or a path below MEDIA_URL or STATIC_URL.
    """
    if not text or len(text) > 2000 or not (_URL.fullmatch(text) or _is_own_file(text)):
        return None
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return None
    if parts.scheme and not parts.hostname:
        return None
    suffix = PurePosixPath(parts.path).suffix.lower()
    if suffix in _IMAGES:
        return text, "image"
    return text, "file" if suffix and parts.path.count("/") >= 1 else "link"


def _is_own_file(text: str) -> bool:
    """Returns whether a text is the path of one of the project's files."""
    roots = (settings.MEDIA_URL, settings.STATIC_URL)
    below = any(
        root and len(root) > 1 and root.startswith("/") and text.startswith(root) for root in roots
    )
    return below and not text.startswith("//") and text.isprintable() and "\\" not in text


class _Tree:
    """One rendering. It counts nodes, so that a large result makes no page of a million."""

    def __init__(self) -> None:
        self._left = MOST_NODES

    def node(self, value: Any, level: int) -> Iterator[str]:
        if isinstance(value, dict):
            yield from self._group(value.items(), len(value), level, "{}", "key")
        elif isinstance(value, list):
            yield from self._group(enumerate(value), len(value), level, "[]", "item")
        else:
            yield _scalar(value)

    def _group(
        self, items: Iterable[tuple[Any, Any]], size: int, level: int, brackets: str, noun: str
    ) -> Iterator[str]:
        if size == 0:
            yield f'<span class="json-empty">{brackets}</span>'
            return
        is_open = level < OPEN_LEVELS and size <= OPEN_ITEMS
        yield f'<details class="json"{" open" if is_open else ""}><summary>{brackets[0]}'
        yield f'<span class="json-size">{counted(size, noun)}</span>{brackets[1]}</summary><ul>'
        shown = 0
        for key, value in islice(items, MOST_ITEMS):
            if self._left <= 0:
                break
            self._left -= 1
            shown += 1
            yield f'<li><span class="json-key">{escape(key)}</span>'
            yield from self.node(value, level + 1)
            yield "</li>"
        if shown < size:
            yield f'<li class="json-more">{size - shown} more in the raw JSON</li>'
        yield "</ul></details>"


def _scalar(value: Any) -> str:
    if not isinstance(value, str):
        return (
            f'<code class="json-{type(value).__name__.lower()}">{escape(json.dumps(value))}</code>'
        )
    link = link_of(value)
    if link is not None:
        address, kind = link
        return (
            f'<a class="json-link" data-kind="{kind}" href="{escape(address)}" target="_blank"'
            f' rel="noopener noreferrer">{escape(value)}</a>'
        )
    if len(value) > LONG_TEXT:
        return (
            f'<details class="json-text"><summary>{escape(value[:LONG_TEXT])}…'
            f'<span class="json-size">{counted(len(value), "character")}</span></summary>'
            f"<pre>{escape(value)}</pre></details>"
        )
    return f'<span class="json-str">{escape(value)}</span>'
