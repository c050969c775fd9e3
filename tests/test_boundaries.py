"""The package's rooms: what may import what, and words that no file may hold."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rail_async_tasks"

# From the ground up: a room may import its own layer and the ones before it.
LAYERS = (
    {"errors", "ids", "states", "text", "retry", "conf", "codec", "origin", "own_views"}
    | {"vital", "hooks", "forks", "redis_address", "safe_logging", "backoff", "db_connections"},
    {"snapshot", "task_options", "definition", "registry", "queue_limits", "access", "models"},
    {"ledger", "bus"},
    {"runtime"},
    {"backends"},
    {"hosting"},
    {"workers"},
    {"service", "auth", "observability"},
    {
        "handle",
        "declare",
        "graphql",
        "rest",
        "servers",
        "health",
        "asgi",
        "urls",
        "checks",
        "apps",
        "admin",
        "__init__",
    },
    {"management", "migrations", "testing"},
)
LEVELS = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}

# Optional packages: everything else works without them, and one module knows each.
EXTRAS = {
    "arq", "celery", "cronsim", "cryptography", "django_q", "dramatiq", "jwt", "opentelemetry",
    "prometheus_client", "redis",
}  # fmt: skip

# Split, so that this file does not hold them itself.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
HOSTS = re.compile(
    "|".join(("pypi" + r"\.org", "pythonhosted" + r"\.org", "npm" + r"js\.(org|com)",
              "deb" + r"ian\.org"))
)  # fmt: skip


@cache
def modules() -> list[tuple[Path, ast.Module]]:
    return [
        (path, ast.parse(path.read_text(), str(path))) for path in sorted(PACKAGE.rglob("*.py"))
    ]


def room_of(path: Path) -> str:
    """The part of the package that a file belongs to: its first folder, else its own name."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Each dotted name that is imported anywhere in a module, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports name their package in full"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def rooms_imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for line, name in imported(tree):
        parts = name.split(".")
        if parts[0] == PACKAGE.name:
            # A name that is no room comes from the package's own front door.
            yield line, parts[1] if len(parts) > 1 and parts[1] in LEVELS else "__init__"


def tracked_files() -> list[Path]:
    """The files of the repository; in a copy without one, those that are not made by tools."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if (ROOT / name).is_file()]
    made = {".venv", ".matrix", "dist", "__pycache__", "node_modules"}
    return [path for path in ROOT.rglob("*") if path.is_file() and not made & set(path.parts)]


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in tracked_files()
        if path.suffix != ".png"
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def test_every_module_has_a_room() -> None:
    """A new top-level module is given its layer here before anything imports it."""
    assert {room_of(path) for path, _ in modules()} <= set(LEVELS)


def test_imports_point_one_way() -> None:
    """No module imports one of a later layer, not even inside a function."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {room}"
        for path, tree in modules()
        for line, room in rooms_imported(tree)
        if LEVELS[room] > LEVELS[room_of(path)]
    ]
    assert wrong == []


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_an_optional_package_is_known_to_one_module(extra: str) -> None:
    """One module imports an extra for all others; a broker's has one for each direction."""
    users = defaultdict(set)
    for path, tree in modules():
        for _, name in imported(tree):
            users[name.split(".")[0]].add(str(path.relative_to(ROOT)))
    assert len({room_of(ROOT / it) for it in users[extra]}) == len(users[extra]), users[extra]
    sides = {"backends", "workers"}
    assert len(users[extra]) <= 1 or {room_of(ROOT / it) for it in users[extra]} == sides


def test_every_logger_is_a_safe_one() -> None:
    """A filter of the project's that raises would end the thread that logs: see `safe_logging`."""
    direct = [
        str(path.relative_to(ROOT))
        for path, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr == "getLogger"
        and room_of(path) != "safe_logging"
    ]
    assert direct == []


def test_nothing_is_left_unfinished() -> None:
    """No file holds a note of work that is still to be done: it is an issue, or it is done."""
    assert lines_with(UNFINISHED) == []


def test_no_file_names_a_registry() -> None:
    """Packages come from wherever an installer is set up to look, so no file says where."""
    assert lines_with(HOSTS) == []


def test_the_lock_file_has_names_versions_and_hashes_only() -> None:
    """Nothing of the machine that wrote it: no index, no folder of wheels, no address."""
    line = re.compile(
        r"[a-z0-9-]+(\[[a-z,-]+\])?==[^ ]+( ; [^\\]+)? \\"
        r"|    --hash=sha256:[0-9a-f]{64}( \\)?"
        r"|#.*| +# .*"
    )
    lines = (ROOT / "requirements" / "dev.lock").read_text().splitlines()
    assert [text for text in lines if not line.fullmatch(text)] == []
