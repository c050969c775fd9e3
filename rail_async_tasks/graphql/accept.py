"""Content negotiation: chooses a media type by an `Accept` header. Pure.

By RFC 9110, section 12.5.1: neither the order of ranges nor a specific range is a preference.

Django's `HttpRequest.get_preferred_type()` answers another question: it reads a specific range as a
preference (`text/event-stream, */*` would be events), takes `q=0` for a range that is not there
(`text/event-stream;q=0, */*` too), and does not match `application/json; charset=utf-8`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

JSON: Final = "application/json"
GRAPHQL_RESPONSE: Final = "application/graphql-response+json"
EVENT_STREAM: Final = "text/event-stream"
HTML: Final = "text/html"

# How well a range fits a media type; the best fit decides its quality.
_ANYTHING, _SAME_MAIN_TYPE, _NAMED = range(3)

# An element of a list, and a part of an element; a comma or semicolon in quotes ends neither.
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_PARAMETER = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.)*"?)+')
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the token of RFC 9110, 5.6.2
_RANGE = re.compile(rf"({_TOKEN})/({_TOKEN})")
_QUALITY = re.compile(r"0(?:\.[0-9]*)?|1(?:\.0*)?")


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One element of the header: `*/*`, `text/*` or `text/html`, and its quality, 0 to 1."""

    main: str
    sub: str
    quality: float = 1.0

    def fit(self, media_type: str) -> int | None:
        """Returns how closely the range fits a media type; None where it does not."""
        main, _, sub = media_type.partition("/")
        if (self.main, self.sub) == (main, sub):
            return _NAMED
        if (self.main, self.sub) == (main, "*"):
            return _SAME_MAIN_TYPE
        return _ANYTHING if (self.main, self.sub) == ("*", "*") else None


class Accept:
    """A request's `Accept` header. One that is missing or empty accepts anything."""

    def __init__(self, header: str | None) -> None:
        given = header is not None and header.strip(" \t,")
        self.ranges = tuple(_ranges(header or "")) if given else (MediaRange("*", "*"),)

    def best(self, *offered: str) -> str | None:
        """Returns the offered media type with the highest quality; None where none is acceptable.

        The first offered one wins a tie.
        """
        acceptable = [media_type for media_type in offered if self.quality(media_type) > 0]
        return max(acceptable, key=self.quality, default=None)

    def quality(self, media_type: str) -> float:
        """Returns the quality of the most specific range that fits; 0 where none fits."""
        return self._best_fit(media_type)[1]

    def names(self, media_type: str) -> bool:
        """Returns whether a range closer than `*/*` accepts this media type."""
        fit, quality = self._best_fit(media_type)
        return fit > _ANYTHING and quality > 0

    def _best_fit(self, media_type: str) -> tuple[int, float]:
        fits = ((range_.fit(media_type), range_.quality) for range_ in self.ranges)
        return max(
            ((fit, quality) for fit, quality in fits if fit is not None), default=(_ANYTHING, 0.0)
        )


def _ranges(header: str) -> Iterator[MediaRange]:
    """The media ranges of a header that describe types without parameters, as ours are."""
    for element in _ELEMENT.findall(header):
        text, *rest = [part.strip() for part in _PARAMETER.findall(element)] or [""]
        found = _RANGE.fullmatch(text)
        if found is None:
            continue
        pairs = (parameter.partition("=") for parameter in rest if parameter)
        parameters = {name.strip().lower(): value.strip() for name, _, value in pairs}
        quality = parameters.get("q", "1")
        # Older clients send extensions after the quality, which are ignored.
        of_type = set(takewhile(lambda name: name != "q", parameters))
        # Every answer is UTF-8, as JSON and event streams are.
        if not of_type - {"charset"}:
            yield MediaRange(
                found[1].lower(),
                found[2].lower(),
                # As in Django, a malformed quality counts as 1.
                float(quality) if _QUALITY.fullmatch(quality) else 1.0,
            )
