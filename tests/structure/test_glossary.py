"""The words of both glossaries: defined once, in modules that exist."""

from __future__ import annotations

import re

from tests.structure.graph import ROOT

LINE = re.compile(r"^\| \*\*.+\| `([^`]+)` \|$")


USERS, CODE = "glossary.md", "contributing/glossary.md"
# In the page of the code: the table of the users' words.
HOMES = "## Where the words of the users' glossary live"


def lines(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    return [line for line in text.splitlines() if line.startswith("| **")]


def words(lines: list[str]) -> list[str]:
    return [line.split(" | ")[0] for line in lines]


def homes() -> list[str]:
    """Returns the lines that say where the users' words live."""
    table = (ROOT / "docs" / CODE).read_text().partition(HOMES)[2].partition("\n## ")[0]
    return [line for line in table.splitlines() if line.startswith("| **")]


def test_each_word_names_its_module() -> None:
    """The last cell of each line is a file of the package."""
    homes = {line: LINE.match(line) for line in lines(CODE)}
    assert [line for line, home in homes.items() if home is None] == []
    named = {home[1] for home in homes.values() if home is not None}
    package = ROOT / "rail_async_tasks"
    assert {path for path in named if not (package / path).is_file()} == set()


def test_a_word_is_defined_once() -> None:
    """In one of the pages. A word with two meanings says which one."""
    defined = words(lines(USERS)) + words(lines(CODE)[len(homes()) :])
    assert sorted(defined) == sorted(set(defined))


def test_each_word_of_the_users_has_its_module() -> None:
    """The page of the code says where it lives, in the same order."""
    assert words(homes()) == words(lines(USERS))
