"""The reader of the pages: marks, and where a block goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.pages import read
from tests.support.reader import Reader, put
from tests.support.reader_python import interpreter

FILE = '''\
"""Tasks."""

@one
@two
def first():
    return 1


def second():
    return 2
'''
MARKED = """\
<!-- starts from: other.md -->
# Title

<!-- not run: it needs a server -->
```sh
one
```

<!-- in place of: first -->
```python
# shop/tasks.py
```

<!-- at the end of: shop/tasks.py -->
```python
# shop/tasks.py
```

<!-- not run: the text between takes the mark away -->
Text.

```python
two
```
"""


def test_a_block_takes_the_place_of_a_function() -> None:
    """With its decorators; what is around it stays."""
    found = put("def first():\n    return 3\n", FILE, "first")
    assert found.startswith('"""Tasks."""\n\ndef first():\n    return 3\n\n\ndef second():')
    assert "@one" not in found
    assert put("x = 1\n", FILE, "second").endswith("return 1\n\n\nx = 1\n")


def test_a_block_that_replaces_nothing_is_an_error() -> None:
    """A page must not go on when its file has no such function."""
    with pytest.raises(ValueError, match="unpack"):
        put("x = 1\n", FILE, "third")


def test_the_whole_file_and_its_end() -> None:
    """The two other places."""
    assert put("x = 1\n", FILE, "the file") == "x = 1\n"
    assert put("x = 1\n", FILE, "the end") == f"{FILE}\n\nx = 1\n"
    assert put("x = 1\n", "", "the end") == "x = 1\n"


def test_marks(tmp_path: Path) -> None:
    """Each holds for the block that follows it at once."""
    (tmp_path / "page.md").write_text(MARKED)
    page = read(tmp_path / "page.md")
    assert page.starts_from == tmp_path / "other.md"
    assert [it.skipped for it in page.blocks] == ["it needs a server", None, None, None]
    assert [it.place for it in page.blocks] == ["", "first", "the end", ""]


def test_a_page_is_followed_once_for_those_that_start_from_it(tmp_path: Path) -> None:
    """Its commands run once; each reader gets a copy of what they made."""
    (tmp_path / "first.md").write_text(f"```sh\necho once >> {tmp_path}/log\ntouch made\n```\n")
    (tmp_path / "second.md").write_text("<!-- starts from: first.md -->\n")
    for name in "ab":
        folder = tmp_path / name
        folder.mkdir()
        with Reader(folder, interpreter()) as reader:
            reader.follow(read(tmp_path / "second.md"))
        assert (folder / "made").exists()
    assert (tmp_path / "log").read_text() == "once\n"


def test_a_module_that_cannot_be_imported_is_an_error(tmp_path: Path) -> None:
    """At the end of the page, with its traceback, though no block has imported it."""
    files = {"root/settings.py": 'SECRET_KEY = "x"', "good.py": "", "bad.py": "import no_such"}
    for name, text in files.items():
        with (tmp_path / "page.md").open("a") as page:
            page.write(f"```python\n# {name}\n{text}\n```\n")
    folder = tmp_path / "project"
    folder.mkdir()
    with Reader(folder, interpreter()) as reader:
        reader.follow(read(tmp_path / "page.md"))
        with pytest.raises(AssertionError, match="No module named 'no_such'"):
            reader.check()
        (folder / "bad.py").write_text("")
        reader.check()
