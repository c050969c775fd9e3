"""The import graph of the repository's Python modules, read from their source."""

from __future__ import annotations

import ast
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("rail_async_tasks", "benchmarks", "devservers", "example_project", "tests")
MADE_BY_TOOLS = {"node_modules", "__pycache__"}

Graph = Mapping[str, Iterable[str]]


def module_name(path: Path) -> str:
    """Returns the dotted name of a file below the root; a package is its `__init__.py`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules(package: str) -> dict[str, Path]:
    """Returns the files of one top-level package by module name."""
    return {
        module_name(path): path
        for path in sorted((ROOT / package).rglob("*.py"))
        if not MADE_BY_TOOLS & set(path.parts)
    }


@dataclass(frozen=True)
class Facts:
    """What the tests of the structure ask of a module's source.

    Attributes:
        imports: the line and dotted name of every import; see `imported_names`.
        attributes: the names of all attributes that it reads or sets.
        strings: the line and text of every string that names a module of the tests.
    """

    imports: tuple[tuple[int, str], ...]
    attributes: frozenset[str]
    strings: tuple[tuple[int, str], ...]


@cache
def facts(path: Path) -> Facts:
    """Reads a file once. Its syntax tree is a hundred times as large, and is not kept."""
    tree = ast.parse(path.read_text(), str(path))
    nodes = list(ast.walk(tree))
    return Facts(
        imports=tuple(imported_names(nodes)),
        attributes=frozenset(node.attr for node in nodes if isinstance(node, ast.Attribute)),
        strings=tuple(
            (node.lineno, node.value)
            for node in nodes
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.startswith("tests.")
        ),
    )


def imported_names(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    """Yields the line and dotted name of every import, also in functions and for type checkers.

    `import_module("a.b")` with a literal counts: it is the same import, only harder to see.
    """
    for node in nodes:
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, level=level):
                assert level == 0, f"line {node.lineno}: imports name their package in full"
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
            case ast.Call(
                func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name))],
            ):
                yield node.lineno, name


def nearest(name: str, known: Container[str]) -> str | None:
    """Returns the longest dotted prefix of `name` that is known, or None."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


@cache
def all_modules(packages: tuple[str, ...] = PACKAGES) -> dict[str, Path]:
    return {name: path for package in packages for name, path in modules(package).items()}


@cache
def import_graph(packages: tuple[str, ...] = PACKAGES) -> dict[str, dict[str, int]]:
    """Returns the imports among the modules of these packages: target to first line, by module.

    A package is not counted as imported by its submodules: Python runs its `__init__` first, but
    no line of theirs asks for it.
    """
    known = all_modules(packages)
    graph: dict[str, dict[str, int]] = {}
    for module, path in known.items():
        targets = graph.setdefault(module, {})
        for line, name in facts(path).imports:
            target = nearest(name, known)
            if target is not None and target != module:
                targets.setdefault(target, line)
    return graph


def knots(graph: Graph) -> list[list[str]]:
    """Returns the strongly connected components of more than one module (Tarjan), sorted."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found: list[list[str]] = []

    def visit(root: str) -> None:
        work = [(root, iter(sorted(graph.get(root, ()))))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, targets = work[-1]
            for target in targets:
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    on_stack.add(target)
                    work.append((target, iter(sorted(graph.get(target, ())))))
                    break
                if target in on_stack:
                    low[node] = min(low[node], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    knot = []
                    while node not in knot:
                        knot.append(stack.pop())
                        on_stack.discard(knot[-1])
                    if len(knot) > 1:
                        found.append(sorted(knot))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return sorted(found)


def shortest_cycle(graph: Graph, knot: Iterable[str]) -> list[str]:
    """Returns one shortest way round within a knot; its first module is also its last."""
    inside = set(knot)
    best: list[str] = []
    for start in sorted(inside):
        came_from: dict[str, str] = {}
        queue = [start]
        for node in queue:
            for target in sorted(inside.intersection(graph.get(node, ()))):
                if target == start:
                    way = [node]
                    while way[-1] != start:
                        way.append(came_from[way[-1]])
                    way = [*reversed(way), start]
                    if not best or len(way) < len(best):
                        best = way
                elif target not in came_from:
                    came_from[target] = node
                    queue.append(target)
    return best
