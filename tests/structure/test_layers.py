"""Imports point one way: from the edges to the ground, between folders and inside of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.structure import graph as graphs
from tests.structure.layers import FOLDERS, floors

NAME = "rail_async_tasks"


def within(folder: str, module: str) -> str | None:
    """Returns a module's name within a folder, `__init__` for the folder itself; else None."""
    prefix = f"{NAME}.{folder}" if folder else NAME
    if module == prefix:
        return "__init__"
    return module.removeprefix(f"{prefix}.") if module.startswith(f"{prefix}.") else None


def upward(
    folder: str, levels: Mapping[str, int], graph: Mapping[str, Mapping[str, int]]
) -> Iterator[tuple[str, str]]:
    """Yields the imports of the folder that do not lead to a lower floor, as module and target."""

    def room(module: str) -> str | None:
        inside = within(folder, module)
        return None if inside is None else graphs.nearest(inside, levels)

    for module, targets in graph.items():
        mine = room(module)
        for target in targets:
            its = room(target)
            if mine and its and its != mine and levels[its] >= levels[mine]:
                yield module, target


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_module_has_its_floor(folder: str) -> None:
    """A new module gets its place in `layers` before anything imports it; a name there exists."""
    levels = floors(FOLDERS[folder])
    inside = {
        name
        for module in graphs.modules(NAME)
        if (name := within(folder, module)) and (name != "__init__" or name in levels)
    }
    assert {name for name in inside if graphs.nearest(name, levels) is None} == set()
    assert {name for name in levels if name not in inside} == set()


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_point_one_way(folder: str) -> None:
    """No module imports a higher floor or its own, not even in a function or for type checkers."""
    graph = graphs.import_graph((NAME,))
    known = graphs.modules(NAME)
    wrong = [
        f"{known[module].relative_to(graphs.ROOT)}:{graph[module][target]} imports {target}"
        for module, target in upward(folder, floors(FOLDERS[folder]), graph)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("module", "target", "refused"),
    [
        ("runtime.b", "runtime.a", False),
        ("runtime.a", "runtime.b", True),
        ("runtime.b", "runtime.c", True),  # the same floor
        ("runtime.d.one", "runtime.d.two", False),  # a folder's own business
        ("runtime.a", "runtime.d.one", True),
        ("runtime.d.top", "runtime.e", False),
        ("runtime.d.one", "runtime.e", True),
        ("runtime.a", "ledger", False),  # another folder's order has it
    ],
)
def test_an_import_up_is_found(module: str, target: str, refused: bool) -> None:
    """Up, on the same floor, and out of a folder."""
    levels = floors(("a", "b c", "d", "e", "d.top"))
    graph = {f"{NAME}.{module}": {f"{NAME}.{target}": 1}}
    assert bool(list(upward("runtime", levels, graph))) is refused
