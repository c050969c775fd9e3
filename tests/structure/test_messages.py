"""Messages as people read them: numbers and their nouns, full stops, the project's own name."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("rail_async_tasks", "example_project")
TEXTS = [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"),
    *(path for kind in ("html", "js") for path in (ROOT / "example_project").rglob(f"*.{kind}")),
    *(path for kind in ("html", "js") for path in (ROOT / "rail_async_tasks").rglob(f"*.{kind}")),
]  # fmt: skip

# Nouns that messages count.
NOUN = (
    r"(tasks|rows|outcomes|bodies|processes|bytes|characters|times|days|hours|minutes|queues|calls"
    r"|callbacks|executions|workers|attempts|retries|files|lines|problems|errors|events|schedules)\b"
)
ERRORS = {"error", "exc", "cause", "reason", "why", "said", "message"}


def modules() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted((ROOT / folder).rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def texts(node: ast.AST) -> Iterator[str]:
    """Yields the literal texts, with `{}` for a number or a value that an f-string shows.

    A value under a constant's name is shown as that name: such a number is known, and is not 1.
    """
    docstrings = set()
    nodes = list(ast.walk(node))
    for it in nodes:
        if isinstance(it, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = it.body[0] if it.body else None
            if isinstance(first, ast.Expr):
                docstrings.add(id(first.value))
    shown = [it for it in nodes if isinstance(it, ast.JoinedStr)]
    passed_over = docstrings | {id(part) for it in shown for part in it.values}
    yield from ("".join(_part(part) for part in it.values) for it in shown)
    for it in nodes:
        if isinstance(it, ast.Constant) and isinstance(it.value, str) and id(it) not in passed_over:
            yield it.value


def _part(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    name = ast.unparse(part.value)
    if part.format_spec is not None and "," in ast.unparse(part.format_spec):
        return "MANY"  # thousands, or the comma is for nothing
    return name if name.isupper() else f"{{{name}}}"


def wrong(text: str) -> str | None:
    """Returns what is wrong with a message."""
    if found := re.search(rf"(%d|%i|\{{[^{{}}]*\}}) {NOUN}", text):
        return f"{found[0]!r} reads wrongly of one: use text.counted()"
    if re.search(r"\b1 (tasks|rows|processes)\b", text):
        return "one is not many"
    if found := re.search(rf"\{{({'|'.join(ERRORS)})[^{{}}]*\}}\.( |$)", text):
        return f"{found[0]!r} may end in two full stops: use text.sentence()"
    # Lua, which is in texts too, joins strings by two dots.
    if re.search(r"[a-z)\"']\.\.(\s|$)", text):
        return "two full stops"
    return None


def test_messages_of_the_package_and_the_example() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {text[:80]!r}": problem
        for path in modules()
        for text in texts(tree_of(path))
        if (problem := wrong(text)) is not None
    }
    assert found == {}


@pytest.mark.parametrize(
    "text",
    ["%d tasks", "wait for {count} bytes", "1 tasks", "failed: {error}. Mend it", "It is over.."],
)
def test_these_would_be_found(text: str) -> None:
    assert wrong(text) is not None


@pytest.mark.parametrize("text", ["%s were", "MAX bytes", "and so on...", "../up", "1 task"])
def test_these_are_fine(text: str) -> None:
    assert wrong(text) is None


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_texts_for_people(path: Path) -> None:
    """Pages, templates and scripts."""
    text = path.read_text()
    assert re.search(r"\b1 (tasks|rows|processes)\b", text) is None
    assert re.search(r"[a-z)`]\.\.(\s|$)", text) is None
    counted = [
        line
        for line in text.splitlines()
        if re.search(rf"\$\{{[^{{}}]*\}} {NOUN}", line) and "=== 1" not in line
    ]
    assert counted == []


def extras() -> dict[str, list[str]]:
    found: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    return found


def test_what_is_installed_is_named_as_the_project_is() -> None:
    """One spelling, and extras that exist."""
    everywhere = [*modules(), *TEXTS, *(ROOT / "rail_async_tasks").rglob("*.md")]
    for path in everywhere:
        text = path.read_text()
        for name, extra in re.findall(r"(rail[-_]async[-_]tasks)\[([a-z0-9,-]+)\]", text):
            assert name == "rail_async_tasks", path
            assert set(extra.split(",")) <= set(extras()), path
        assert not re.search(r"pip install [\"']?rail-async-tasks", text), path


# How else a package of an extra is used than by an import of ours.
OTHERWISE = {
    "websockets": "uvicorn's implementation of WebSocket",
    "psycopg": "Django's driver of PostgreSQL",
    "uvicorn": "the server that starts the application",
    "uvloop": "uvicorn's loop",
    "vega_datasets": "the data of the example, which reads its files",
    "rail_async_tasks": "another extra",
    "django-dramatiq": "an app of the project's",
}
IMPORTS = {
    "PyJWT": "jwt",
    "django-q2": "django_q",
    "opentelemetry-api": "opentelemetry",
    "prometheus-client": "prometheus_client",
}


def _called(call: ast.Call) -> str | None:
    """The last name of what is called."""
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return None


@cache
def imported() -> set[str]:
    """Returns the top packages that the package, its example and its tests' servers import."""
    found = set()
    for path in modules():
        for it in ast.walk(tree_of(path)):
            if isinstance(it, ast.Import):
                found |= {alias.name.split(".")[0] for alias in it.names}
            elif isinstance(it, ast.ImportFrom) and it.module:
                found.add(it.module.split(".")[0])
            elif isinstance(it, ast.Call) and _called(it) == "import_module":
                names = (arg.value for arg in it.args if isinstance(arg, ast.Constant))
                found |= {str(name).split(".")[0] for name in names}
    return found


@pytest.mark.parametrize("extra", sorted(extras()))
def test_an_extra_installs_what_is_used(extra: str) -> None:
    """Each package of it is imported, or its use is listed above."""
    known = imported()
    for requirement in extras()[extra]:
        match = re.match(r"[\w-]+", requirement)
        assert match is not None
        name = match[0]
        if name not in OTHERWISE:
            assert IMPORTS.get(name, name.replace("-", "_")) in known, requirement
