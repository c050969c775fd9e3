"""No module imports itself through others, in the package or in anything around it."""

from __future__ import annotations

import ast
import itertools

import pytest

from tests.structure import graph as graphs


def described(graph: dict[str, dict[str, int]], knot: list[str]) -> str:
    """Returns a knot's shortest cycle as lines of `file:line imports module`."""
    way = graphs.shortest_cycle(graph, knot)
    known = graphs.all_modules()
    steps = [
        f"  {known[start].relative_to(graphs.ROOT)}:{graph[start][end]} imports {end}"
        for start, end in itertools.pairwise(way)
    ]
    return "\n".join([f"{len(knot)} modules import each other: {', '.join(knot)}", *steps])


def test_no_module_imports_itself_through_others() -> None:
    """Imports inside functions and under TYPE_CHECKING count: a reader follows them as well."""
    graph = graphs.import_graph()
    cycles = [described(graph, knot) for knot in graphs.knots(graph)]
    assert not cycles, "\n\n".join(cycles)


def test_the_graph_sees_every_kind_of_import() -> None:
    """One import per spelling and place: each is an edge."""
    source = """
import a.one
from a import two
if TYPE_CHECKING:
    from a.three import Name
def late():
    from a.four import name
    import_module("a.five")
"""
    names = [name for _, name in graphs.imported_names(ast.walk(ast.parse(source)))]
    assert sorted(names) == ["a.five", "a.four.name", "a.one", "a.three.Name", "a.two"]


@pytest.mark.parametrize(
    ("graph", "knots", "cycle"),
    [
        ({"a": ["b"], "b": ["c"], "c": []}, [], None),
        ({"a": ["b"], "b": ["a"]}, [["a", "b"]], ["a", "b", "a"]),
        (
            {"a": ["b"], "b": ["c", "d"], "c": ["a"], "d": ["c"], "e": ["a"]},
            [["a", "b", "c", "d"]],
            ["a", "b", "c", "a"],
        ),
        ({"a": ["b"], "b": ["a"], "c": ["d"], "d": ["c", "a"]}, [["a", "b"], ["c", "d"]], None),
    ],
)
def test_a_cycle_is_found(
    graph: dict[str, list[str]], knots: list[list[str]], cycle: list[str] | None
) -> None:
    """Each group of modules that reach each other is reported once, with its shortest cycle."""
    assert graphs.knots(graph) == knots
    if cycle:
        assert graphs.shortest_cycle(graph, knots[0]) == cycle
