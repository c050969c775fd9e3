"""Python source as HTML with a class per kind of token; all that it takes is `tokenize`."""

from __future__ import annotations

import io
import keyword
import token
import tokenize

from django.utils.html import escape

# An f-string is one token up to Python 3.11 and several from 3.12 on.
_STRINGS = {token.STRING} | {
    getattr(token, name)
    for name in ("FSTRING_START", "FSTRING_MIDDLE", "FSTRING_END")
    if hasattr(token, name)
}


def python_html(source: str) -> str:
    """The source, escaped, with `<span class="…">` around what has a colour."""
    lines = source.splitlines(keepends=True)
    parts: list[str] = []
    row, column = 1, 0

    def copy_until(end: tuple[int, int]) -> str:
        """The text from where we are to `end`, as it stands in the source."""
        nonlocal row, column
        text = ""
        while row < end[0]:
            text += lines[row - 1][column:]
            row, column = row + 1, 0
        if row <= len(lines):
            text += lines[row - 1][column : end[1]]
        column = end[1]
        return escape(text)

    before = ""
    for item in tokenize.generate_tokens(io.StringIO(source).readline):
        parts.append(copy_until(item.start))
        text = copy_until(item.end)
        kind = _kind(item, before)
        parts.append(f'<span class="{kind}">{text}</span>' if kind and text else text)
        if item.string.strip():
            before = item.string
    return "".join(parts)


def _kind(item: tokenize.TokenInfo, before: str) -> str:
    if item.type == token.COMMENT:
        return "comment"
    if item.type in _STRINGS:
        return "string"
    if item.type == token.NUMBER:
        return "number"
    if item.type == token.NAME:
        if keyword.iskeyword(item.string):
            return "keyword"
        if before in ("def", "class"):
            return "name"
        if before == "@":
            return "decorator"
    return "decorator" if item.string == "@" else ""
