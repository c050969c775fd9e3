"""Every page is followed to the letter, and every block of code runs or says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.pages import ROOT, RUN, read
from tests.support.reader import Reader, interpreter

# Pages whose blocks other tests run, one by one.
FOLLOWED_BY: dict[str, str] = {}

PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    if "decisions" not in path.parts
)


@pytest.mark.parametrize("name", [it for it in PAGES if it not in FOLLOWED_BY])
def test_every_block_of_a_page_runs(name: str, tmp_path: Path) -> None:
    """In its order, in a project that grows as the page says."""
    page = read(ROOT / name)
    if not any(it.skipped is None and it.language in RUN for it in page.blocks):
        return
    folder = tmp_path / "project"
    folder.mkdir()
    with Reader(folder, interpreter()) as reader:
        reader.follow(page)


def test_a_page_that_others_follow_is_read_by_them() -> None:
    """The test names the page."""
    for page, test in FOLLOWED_BY.items():
        assert Path(page).name in (ROOT / test).read_text(), f"{test} does not read {page}"


def test_a_reason_is_given_for_each_block_that_is_not_run() -> None:
    """In words: `not run: X` with a few of them."""
    for name in PAGES:
        for block in read(ROOT / name).blocks:
            assert block.skipped is None or len(block.skipped.split()) >= 3, str(block)
