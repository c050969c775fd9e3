"""What users' type checkers and editors know of tasks: mypy under `strict`, pyright, a hover."""

from __future__ import annotations

import runpy
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from rail_async_tasks.registry import registry
from tests.services.node import node_problem
from tests.support.needs import unavailable
from tests.typing import checkers
from tests.typing.language_server import language_server


@pytest.fixture(scope="session")
def pyright() -> None:
    """pyright, of npm."""
    if (problem := node_problem()) is not None:
        unavailable(problem)


@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not in this environment.")
def test_mypy_finds_the_expected_errors_and_no_others(tmp_path: Path) -> None:
    """Every `assert_type` holds, and every marked line has its error."""
    found, output = checkers.found_by_mypy(tmp_path)
    assert found == checkers.expected("mypy"), output


def test_pyright_finds_the_expected_errors_and_no_others(pyright: None, tmp_path: Path) -> None:
    """The same for pyright, which users' editors run."""
    found, output = checkers.found_by_pyright(tmp_path)
    assert found == checkers.expected("pyright"), output


def test_an_editor_shows_the_signature(pyright: None, tmp_path: Path) -> None:
    """Over a task, its start and its result."""
    checkers.make_project(tmp_path)
    path = tmp_path / "programs" / "forms.py"
    with language_server(tmp_path) as server:
        server.open(path)
        task = server.hover(path, "assert_type(with_root")
        start = server.hover(path, "assert_type(with_root.enqueue")
        result = server.hover(path, "assert_type(plain.enqueue(1).result")
    assert 'with_root: Task[(number: int, text: str = ""), dict[str, Any], ' in task
    assert 'enqueue( number: int, text: str = "" ) -> TaskHandle[dict[str, Any]]' in start
    assert "result(timeout: float | None = None) -> int" in result


def test_the_programs_declare_working_tasks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the checkers accept can be imported: the declarations hold at run time too."""
    monkeypatch.setattr(registry, "_definitions", {})
    for name in ("coroutine_names", "thread_names"):
        monkeypatch.setattr(registry, name, frozenset())
    for path in sorted(checkers.PROGRAMS.glob("*.py")):
        if path.stem != "mistakes":
            import_module(f"tests.typing.programs.{path.stem}")
    runpy.run_path(str(checkers.write_page(tmp_path)))
    assert {
        "report",
        "with_root",
        "forms.plain_with_info",
        "bare.report",
        "pack",
    } <= registry.names()
    registry.resolve()
