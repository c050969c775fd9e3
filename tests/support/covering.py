"""Matrices of tests of which `make test` runs a covering part, and `make test-long` the rest.

    @pytest.mark.covering("place", "kind")          each value of each at least once
    @pytest.mark.covering("place", "kind", "value")  each pair of values at least once

    @pytest.mark.turns("store")                      one value per test; a file's tests take turns

The arguments are those of the test that have several values, by parametrization or by a fixture.
`keep` names more cells, by a part of their id: those that have found a fault which others did not.
A cell that is `long` or `mariadb` by itself is none of the matrix. The choice is always the same.

`turns` is for a file whose tests hardly depend on the value: together they run on every value, and
`make test-long` runs each test on each value.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from itertools import combinations
from typing import Any
from zlib import crc32

import pytest

Cell = tuple[int, ...]  # the number of its value, of each argument


def leave_out(items: Sequence[pytest.Item]) -> None:
    """Marks the cells that `make test` leaves out as `long`."""
    matrices: defaultdict[str, list[Any]] = defaultdict(list)
    for item in items:
        elsewhere = item.get_closest_marker("long") or item.get_closest_marker("mariadb")
        if item.get_closest_marker("covering") and not elsewhere:
            matrices[item.nodeid.partition("[")[0]].append(item)
    for matrix in matrices.values():
        mark = matrix[0].get_closest_marker("covering")
        cells = _cells([[item.callspec.params[name] for name in mark.args] for item in matrix])
        chosen = covering(cells, 1 if len(mark.args) < 3 else 2)
        keep: Collection[str] = mark.kwargs.get("keep", ())
        for item, cell in zip(matrix, cells, strict=True):
            if cell not in chosen and not any(part in item.callspec.id for part in keep):
                item.add_marker(pytest.mark.long)


def take_turns(items: Sequence[pytest.Item]) -> None:
    """Marks all but one cell of each test as `long`, for the argument that `turns` names.

    A test with other arguments counts as one test for each of their combinations.
    """
    files: defaultdict[str, list[Any]] = defaultdict(list)
    for item in items:
        mark = item.get_closest_marker("turns")
        elsewhere = item.get_closest_marker("long") or item.get_closest_marker("mariadb")
        if mark and mark.args[0] in _params(item) and not elsewhere:
            files[item.nodeid.partition("::")[0]].append(item)
    for file, its_items in files.items():
        name = its_items[0].get_closest_marker("turns").args[0]
        tests: defaultdict[tuple[object, ...], list[Any]] = defaultdict(list)
        for item in sorted(its_items, key=lambda it: it.nodeid):
            others = (id(it) for key, it in sorted(_params(item).items()) if key != name)
            tests[item.nodeid.partition("[")[0], *others].append(item)
        values = sorted({str(_params(it)[name]) for it in its_items})
        for number, cells in enumerate(tests.values(), crc32(file.encode())):
            # The first of these values that the test has.
            order = [values[(number + step) % len(values)] for step in range(len(values))]
            chosen = min(cells, key=lambda it: order.index(str(_params(it)[name])))
            for item in cells:
                if item is not chosen:
                    item.add_marker(pytest.mark.long)


def _params(item: Any) -> dict[str, Any]:
    """Returns the arguments of a test by name; none where it is not parametrized."""
    callspec = getattr(item, "callspec", None)
    return {} if callspec is None else callspec.params


def _cells(rows: Sequence[Sequence[object]]) -> list[Cell]:
    """Numbers the values of each column, by the objects: they may have no hash, or a rude one."""
    numbers: list[dict[int, int]] = [{} for _ in rows[0]]
    return [
        tuple(seen.setdefault(id(it), len(seen)) for seen, it in zip(numbers, row, strict=True))
        for row in rows
    ]


def covering(cells: Sequence[Cell], strength: int) -> set[Cell]:
    """Chooses cells that hold every combination of `strength` values which occurs in any cell.

    Takes the cell with most new combinations each time; of several, the one whose values have been
    taken least, so that no value has most of the cells.
    """
    left = {combination for cell in cells for combination in _combinations(cell, strength)}
    ordered = sorted(set(cells))
    used: Counter[tuple[int, int]] = Counter()
    chosen: set[Cell] = set()

    def worth(cell: Cell) -> tuple[int, int]:
        new = sum(it in left for it in _combinations(cell, strength))
        return new, -sum(used[it] for it in enumerate(cell))

    while left:
        best = max(ordered, key=worth)
        chosen.add(best)
        used.update(enumerate(best))
        left.difference_update(_combinations(best, strength))
    return chosen


def _combinations(cell: Cell, strength: int) -> list[tuple[tuple[int, int], ...]]:
    return list(combinations(enumerate(cell), strength))
