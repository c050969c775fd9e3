"""The glossary's words live in modules that exist."""

from __future__ import annotations

import re

from tests.structure.graph import ROOT

LINE = re.compile(r"^\| \*\*.+\| `([^`]+)` \|$")


def lines() -> list[str]:
    page = (ROOT / "docs" / "glossary.md").read_text()
    return [line for line in page.splitlines() if line.startswith("| **")]


def test_each_word_names_its_module() -> None:
    """The last cell of each line is a file of the package."""
    homes = {line: LINE.match(line) for line in lines()}
    assert [line for line, home in homes.items() if home is None] == []
    named = {home[1] for home in homes.values() if home is not None}
    package = ROOT / "rail_async_tasks"
    assert {path for path in named if not (package / path).is_file()} == set()


def test_a_word_is_defined_once() -> None:
    """A word with two meanings says which one."""
    words = [line.split(" | ")[0] for line in lines()]
    assert sorted(words) == sorted(set(words))
