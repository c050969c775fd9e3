"""Every link of README and documentation to a file or a heading of the checkout leads there."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.support.pages import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")
# The target of [text](target), ![text](target), [text](<target>) and <a href="target">.
_LINK = re.compile(
    r"\]\(<?([^()\s>]+(?:\([^()\s]*\))?)>?(?: \"[^\"]*\")?\)|(?:href|src)=\"([^\"]+)\""
)
_HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)?$", re.MULTILINE)
_ANCHOR = re.compile(r"<a (?:id|name)=\"([^\"]+)\"")
_LINK_TEXT = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")


def links(page: Path) -> list[str]:
    """Returns the targets on a page that are no addresses of the web."""
    text = _CODE.sub("", _FENCED.sub("", page.read_text()))
    targets = [first or second for first, second in _LINK.findall(text)]
    return [it for it in targets if not re.match(r"[a-z]+:", it)]


@cache
def anchors(page: Path) -> set[str]:
    """Returns the anchors that GitHub gives a page's headings, and those that are written."""
    text = _FENCED.sub("", page.read_text())
    found, seen = set(_ANCHOR.findall(text)), Counter[str]()
    for heading in _HEADING.findall(text):
        slug = slug_of(heading)
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def slug_of(heading: str) -> str:
    """Returns a heading's anchor: lower case, without punctuation, hyphens for spaces."""
    words = _LINK_TEXT.sub(r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def problem(page: Path, target: str) -> str | None:
    """Returns what is wrong with a link."""
    path, _, anchor = target.partition("#")
    place = (page.parent / path).resolve() if path else page
    if not place.exists():
        return "there is no such file"
    if not place.is_relative_to(ROOT):
        return "it leads out of the project"
    if anchor and (place.suffix != ".md" or anchor not in anchors(place)):
        return "there is no such heading"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda it: str(it.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Its relative links and their anchors."""
    broken = [f"{it}: {wrong}" for it in links(page) if (wrong := problem(page, it))]
    assert broken == []


def test_every_page_can_be_reached() -> None:
    """From the README, by links."""
    seen: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        ahead += [(page.parent / it.partition("#")[0]).resolve() for it in links(page)]
    pages = {it for it in PAGES if "decisions" not in it.parts}
    assert {str(it.relative_to(ROOT)) for it in pages - seen} == set()


def test_broken_links_are_seen() -> None:
    """To a file, to a heading, out of the project."""
    page = ROOT / "README.md"
    assert problem(page, "docs/nothing.md") == "there is no such file"
    assert problem(page, "docs/settings.md#nothing") == "there is no such heading"
    assert problem(page, "../") == "it leads out of the project"
    assert problem(page, "docs/quick-start.md#2-switch-it-on") is None
