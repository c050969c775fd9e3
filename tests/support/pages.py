"""The blocks of code of a page, with the marks that stand before them.

A mark is an HTML comment on the line before a block, or at the top of the page:

* `<!-- not run: REASON -->`: the block is not run.
* `<!-- in place of: NAME -->`: the block takes the place of that function or class of its file;
  `the file` is the whole of it.
* `<!-- at the end of: FILE -->`: the block is added to its file.
* `<!-- starts from: PAGE -->`, at the top: the reader has followed that page before.

A block whose first line is a comment with a path is the text of that file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The languages whose blocks are run.
RUN = ("python", "sh", "graphql", "js", "html")

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\s*$")
_MARK = re.compile(r"^\s*<!-- (?P<name>[a-z ]+): (?P<value>.+?) -->\s*$")
_FILE = re.compile(r"^(?:#|//|<!--|\{#)\s*(?P<path>[\w./-]+\.\w+)\s*(?:-->|#\})?\s*$")


@dataclass(frozen=True)
class Block:
    """A block of code. `file` is the path that its first line names, `skipped` why it isn't run.

    `place` is the function or class that it replaces, "the file" or "the end"; "" without a mark.
    """

    page: Path
    line: int
    language: str
    text: str
    skipped: str | None
    place: str = ""

    @property
    def file(self) -> str | None:
        found = _FILE.match(self.text.partition("\n")[0])
        return None if found is None else found["path"]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Page:
    """A page. `starts_from` is the page that its reader has followed before."""

    path: Path
    blocks: tuple[Block, ...]
    starts_from: Path | None

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))


def read(path: Path) -> Page:
    """Returns a page's blocks in order. Raises ValueError for a fence that does not end."""
    blocks, starts_from = [], None
    mark: dict[str, str] = {}
    lines = iter(enumerate(path.read_text().splitlines(), 1))
    for number, line in lines:
        if found := _MARK.match(line):
            if found["name"] == "starts from":
                starts_from = path.parent / found["value"]
            mark = {found["name"]: found["value"]}
            continue
        fence = _FENCE.match(line)
        if fence is None:
            if line.strip():
                mark = {}
            continue
        text = _until_the_fence_ends(path, number, lines, len(fence["indent"]))
        place = "the end" if "at the end of" in mark else mark.get("in place of", "")
        skipped = mark.get("not run")
        blocks.append(Block(path, number + 1, fence["language"], text, skipped, place))
        mark = {}
    return Page(path, tuple(blocks), starts_from)


def _until_the_fence_ends(path: Path, number: int, lines: object, indent: int) -> str:
    text = []
    for _, line in lines:  # type: ignore[attr-defined]
        if line.strip() == "```":
            return "".join(f"{it[indent:]}\n" for it in text)
        text.append(line)
    raise ValueError(f"{path}:{number}: the block has no end.")
