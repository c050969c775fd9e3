"""The code blocks of docs/graphql-clients.md, and the site that they make."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from devservers.process import ROOT
from tests.services.node import CLIENTS

PAGE = ROOT / "docs/graphql-clients.md"
STATIC = ROOT / "rail_async_tasks/static"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The first line of a block may name its file.
_NAME = re.compile(r"(?:# |// |<!-- )([\w/.-]+\.\w+)(?: -->)?\n")


@dataclass(frozen=True)
class Block:
    """One fenced block. `name` is the file that its first line names, or empty."""

    language: str
    name: str
    text: str


@cache
def blocks() -> tuple[Block, ...]:
    """Returns the blocks in their order."""
    return tuple(_blocks())


def _blocks() -> Iterator[Block]:
    for language, text in _FENCE.findall(PAGE.read_text()):
        named = _NAME.match(text)
        yield Block(language, named[1] if named else "", text)


def named(name: str) -> Block:
    """Returns the block of this file."""
    (found,) = [block for block in blocks() if block.name == name]
    return found


def in_language(language: str) -> list[Block]:
    return [block for block in blocks() if block.language == language]


def write_site(folder: Path) -> Path:
    """Writes the blocks that are files, and what the pages load; returns the folder."""
    for block in blocks():
        if block.name and block.language in ("python", "html"):
            path = folder / block.name
            path.parent.mkdir(parents=True, exist_ok=True)
            # A comment before the doctype is allowed; the block is served as it stands.
            # The report takes so long that a slow machine sees it on its way.
            path.write_text(block.text.replace("asyncio.sleep(0.1)", "asyncio.sleep(0.2)"))
    (folder / "reports/__init__.py").touch()
    static = folder / "static"
    static.mkdir()
    modules = CLIENTS / "node_modules"
    for name in ("htmx.org/dist/htmx.min.js", "htmx-ext-sse/sse.js", "axe-core/axe.min.js"):
        shutil.copy(modules / name, static)
    _bundle(folder)
    return folder


def _bundle(folder: Path) -> None:
    """Bundles the JavaScript blocks into `static`, as a project's own build would."""
    sources = folder / "scripts"
    sources.mkdir()
    (sources / "node_modules").symlink_to(CLIENTS / "node_modules")
    for block in in_language("js"):
        (sources / block.name).write_text(block.text)
    options = ["--bundle", "--format=esm", "--target=es2022", "--log-level=warning"]
    options += ["--external:/static/*", f"--outdir={folder / 'static'}"]
    esbuild = CLIENTS / "node_modules/.bin/esbuild"
    entries = [block.name for block in in_language("js")]
    subprocess.run([esbuild, *entries, *options], cwd=sources, check=True)
