"""Every promise of the pages, of reliability.md and SECURITY.md is shown by tests that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from rail_async_tasks.conf import SchemaSettings, TaskSettings
from rail_async_tasks.graphql.types import TaskExecution as GraphQLTask
from rail_async_tasks.models import TaskExecution

TESTS = Path(__file__).parent
SECTIONS = (
    "Installing", "Settings", "Declaring tasks", "GraphQL", "REST", "URLs", "Commands", "Models",
    "Dashboard", "Not yet",
)  # fmt: skip

Promise = tuple[str, str, str]  # section, promise, what shows it


def sections() -> dict[str, str]:
    """The text of each section by its title."""
    text = (TESTS.parent / "docs/contributing/promises.md").read_text()
    return {part.partition("\n")[0]: part for part in text.split("\n## ")[1:]}


def promises() -> Iterator[Promise]:
    """The lines of the tables."""
    for title, text in sections().items():
        for line in text.splitlines():
            if line.startswith("| ") and not line.startswith("| promise |"):
                promise, shown = line.strip("| ").rsplit(" | ", 1)
                yield title, promise, shown


def faults() -> Iterator[Promise]:
    """The lines of the table of faults: what breaks, what becomes of the tasks, what shows it."""
    text = (TESTS.parent / "docs/reliability.md").read_text()
    for line in text.splitlines():
        if line.startswith("| ") and "`tests/" in line:
            fault, promise, _, shown = (cell.strip() for cell in line.strip("| ").split("|"))
            yield fault, promise, shown


def threats() -> Iterator[tuple[str, str]]:
    """The lines of SECURITY.md's threat model: the threat, and what shows its defence."""
    text = (TESTS.parent / "SECURITY.md").read_text().partition("\n| threat |")[2]
    for line in text.partition("\n\n")[0].splitlines()[2:]:
        threat, _, shown, _ = (cell.strip() for cell in line.strip().strip("|").split("|"))
        yield threat, shown


@cache
def names_in(file: str) -> frozenset[str]:
    """The names of a file's tests, without importing it."""
    tree = ast.parse((TESTS / file).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, functions))


def test_the_sections_are_those_of_the_public_interface() -> None:
    """Each has promises, but for the last one, which has none."""
    assert tuple(sections()) == SECTIONS
    assert {section for section, _, _ in promises()} == set(SECTIONS[:-1])


def test_there_are_as_many_lines_as_faults() -> None:
    """None of them is without a test."""
    text = (TESTS.parent / "docs/reliability.md").read_text()
    table = text.partition("\n| fault |")[2].partition("\n\n")[0]
    assert table.count("\n| ") == len(list(faults())) > 15


@pytest.mark.parametrize("promise", [*promises(), *faults()], ids=lambda it: it[1][:60])
def test_a_promise_is_shown_by_tests_that_exist(promise: Promise) -> None:
    """At least one, by its file and name, and nothing else in that column."""
    named = re.findall(r"`tests/([\w/]+\.py)::(test_\w+)`", promise[2])
    assert named
    assert " ".join(f"`tests/{file}::{name}`" for file, name in named) == promise[2]
    for file, name in named:
        assert (TESTS / file).is_file(), file
        assert name in names_in(file)


@pytest.mark.parametrize(("threat", "shown"), list(threats()))
def test_a_defence_is_shown_by_tests_that_exist(threat: str, shown: str) -> None:
    """Files, or tests in them, and nothing else in that column."""
    named = re.findall(r"`tests/([\w/]+\.py)(?:::(test_\w+))?`", shown)
    assert named
    assert re.sub(r"`tests/[\w/]+\.py(::test_\w+)?`", "", shown).strip() == ""
    for file, name in named:
        assert (TESTS / file).is_file(), file
        assert not name or name in names_in(file), name


@pytest.mark.parametrize("model", [TaskSettings, SchemaSettings])
def test_every_setting_is_promised(model: type) -> None:
    """By a line that begins with its name."""
    lines = [promise for section, promise, _ in promises() if section == "Settings"]
    for field in fields(model):
        assert any(f"`{field.name}`" in line.partition(":")[0] for line in lines), field.name


def test_the_model_has_the_columns_of_the_graphql_type() -> None:
    """In snake case, for users' own queries."""
    columns = {field.name for field in TaskExecution._meta.get_fields()}
    private = {"tracebacks"}  # what the field `traceback` is read from
    assert {field.name for field in fields(GraphQLTask)} - private <= columns
