"""Tables in the docs that list rooms and backends name all that there are, and no others."""

from __future__ import annotations

import re
from dataclasses import fields

from rail_async_tasks.conf import BACKENDS, SchemaSettings, TaskSettings
from tests.structure.graph import PACKAGES, ROOT, modules
from tests.structure.layers import PACKAGE

PACKAGE_NAME = "rail_async_tasks"
MAX_ROW = 180  # characters of a setting's row, without the targets of its links


def rows(page: str, heading: str) -> list[list[str]]:
    """Returns the cells of the first table under a heading, without its own heading."""
    text = (ROOT / page).read_text().split(f"\n## {heading}\n", 1)[1]
    table = re.search(r"^\|.*?(?=\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    assert table is not None
    lines = table[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def quoted(cell: str) -> list[str]:
    """Returns what a cell has in backquotes."""
    return re.findall(r"`([^`]+)`", cell)


def rooms() -> set[str]:
    """Returns the modules and folders at the top of the package."""
    names = {name.removeprefix("rail_async_tasks").lstrip(".") for name in modules(PACKAGE_NAME)}
    return {name.partition(".")[0] for name in names if name}


def test_contributing_shows_the_declared_layers() -> None:
    """Layer by layer, the rooms of `tests/structure/layers.py`."""
    table = rows("CONTRIBUTING.md", "Where things are")
    shown = {layer: set(quoted(names)) for layer, names in table}
    declared = {layer: set(" ".join(floors).split()) for layer, floors in PACKAGE.items()}
    assert shown == declared


def test_how_it_works_shows_every_room() -> None:
    """Each top-level module or folder has its line, and each name in the table exists."""
    table = rows("docs/how-it-works.md", "Where what lives")
    shown = [name.removesuffix("/").removesuffix(".py") for row in table for name in quoted(row[0])]
    assert len(shown) == len(set(shown))
    assert set(shown) == rooms()


def test_how_it_works_names_every_backend() -> None:
    """The line of `backends/` has all values of the setting."""
    table = rows("docs/how-it-works.md", "Where what lives")
    line = next(text for names, text in table if "`backends/`" in names)
    assert set(quoted(line)) == set(BACKENDS)


def test_each_setting_has_a_short_row() -> None:
    """One key and one idea a row, in the tables of the page; more words are below them."""
    text = (ROOT / "docs/settings.md").read_text().split("\n## In more words\n")[0]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    assert all(len(re.sub(r"\(.*?\)", "", line)) <= MAX_ROW for line in lines)
    keys = [line.split("`")[1] for line in lines]
    declared = [field.name for kind in (TaskSettings, SchemaSettings) for field in fields(kind)]
    assert sorted(keys) == sorted(declared)


def test_files_that_docs_name_exist() -> None:
    """A path in backquotes that begins with one of our folders, in the package or beside it."""
    ours = {f"{room}/" for room in rooms() if (ROOT / PACKAGE_NAME / room).is_dir()}
    ours |= {f"{folder}/" for folder in PACKAGES}
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md", ROOT / "README.md"]
    gone = {
        f"{page.relative_to(ROOT)}: {name}"
        for page in pages
        for name in re.findall(r"`([\w./]+)(?:::\w+)?`", page.read_text())
        if name.startswith(tuple(ours)) and "/." not in name  # a run makes folders with a dot
        if not any((top / name).exists() for top in (ROOT, ROOT / PACKAGE_NAME))
    }
    assert gone == set()
