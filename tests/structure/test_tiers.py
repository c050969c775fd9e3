"""A folder of tests stands alone: what two of them need is in tests/support."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.structure.graph import ROOT, Facts, facts, modules

# Helpers, servers and projects, from which every folder may import. The other folders are tiers.
SHARED = {"projects", "services", "support"}


def tiers() -> set[str]:
    """Returns the folders with tests of one kind each."""
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/__init__.py")}
    assert folders > SHARED
    return folders - SHARED


def mentions(source: Facts) -> Iterator[tuple[int, str]]:
    """Yields the line and tier of each import of a tier, and of each dotted name in a string."""
    known = tiers()
    for line, name in (*source.imports, *source.strings):
        if (found := re.match(r"tests\.(\w+)", name)) and found[1] in known:
            yield line, found[1]


def test_no_tier_imports_from_another() -> None:
    """Nor do the shared folders import from a tier: a change of one tier breaks its tests only."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} uses tests.{tier}"
        for path in modules("tests").values()
        for line, tier in mentions(facts(path))
        if path.relative_to(ROOT / "tests").parts[0] != tier
    ]
    assert wrong == []
