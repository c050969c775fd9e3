"""The tables of docs/troubleshooting.md, written from the tests of this folder.

    python -m tests.mistakes.table           fails if a table is out of date
    python -m tests.mistakes.table --write   writes them into the page

A table stands between `<!-- mistakes: MODULE -->` and `<!-- end of mistakes -->`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from tests.mistakes.mistake import MISTAKES, Mistake

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
FOLDER = Path(__file__).parent

_TABLE = re.compile(
    r"(?P<begin><!-- mistakes: (?P<module>\w+) -->\n).*?(?P<end><!-- end of mistakes -->)",
    re.DOTALL,
)
_HEAD = "| what was done | where | what it says | what to do |\n|---|---|---|---|\n"


def mistakes() -> dict[str, list[Mistake]]:
    """Returns the mistakes by module, without `test_`. Imports every module of tests."""
    names = {path.stem for path in FOLDER.glob("test_*.py")} - {"test_table"}
    for name in sorted(names):
        import_module(f"tests.mistakes.{name}")
    return {name.removeprefix("test_"): MISTAKES[f"tests.mistakes.{name}"] for name in names}


def rendered(page: str) -> str:
    """Returns the page with its tables as the tests have them."""
    known = mistakes()

    def table(found: re.Match[str]) -> str:
        rows = rows_of(known[found["module"]])
        return f"{found['begin']}{_HEAD}{rows}{found['end']}"

    return _TABLE.sub(table, page)


def modules(page: str) -> list[str]:
    """Returns the modules whose tables the page has, in its order."""
    return [found["module"] for found in _TABLE.finditer(page)]


def rows_of(known: Sequence[Mistake]) -> str:
    cells = ((_cell(it.done), _cell(it.where), _code(it.says), _code(it.do)) for it in known)
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code(text: str) -> str:
    """Returns the text in backticks; in two where it has some itself."""
    cell = _cell(text)
    if "`" not in cell:
        return f"`{cell}`"
    before, after = (" " if cell[place] == "`" else "" for place in (0, -1))
    return f"``{before}{cell}{after}``"


def main(arguments: Sequence[str]) -> None:
    """Writes the page, or ends with exit code 1 where a table is out of date."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    text = PAGE.read_text()
    new = rendered(text)
    if "--write" in arguments:
        PAGE.write_text(new)
    elif new != text:
        sys.exit(f"{PAGE} is out of date: python -m tests.mistakes.table --write")


if __name__ == "__main__":
    main(sys.argv[1:])
