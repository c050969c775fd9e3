"""Rules for every file: optional packages, loggers, and words that no file holds."""

from __future__ import annotations

import re
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from tests.structure.graph import MADE_BY_TOOLS, ROOT, facts, modules

NAME = "rail_async_tasks"

# Optional packages: everything else works without them, and one module imports each.
EXTRAS = {
    "arq", "celery", "cronsim", "cryptography", "django_q", "django_tasks", "dramatiq",
    "jwt", "opentelemetry", "prometheus_client", "redis", "rich",
}  # fmt: skip

# Split, so that this file does not hold them itself.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
HOSTS = re.compile(
    "|".join(("pypi" + r"\.org", "pythonhosted" + r"\.org", "npm" + r"js\.(org|com)",
              "deb" + r"ian\.org"))
)  # fmt: skip


def tracked_files() -> list[Path]:
    """Returns the files of the repository; in a copy without one, those that no tool has made."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if (ROOT / name).is_file()]
    made = {".venv", ".matrix", "dist"} | MADE_BY_TOOLS
    return [path for path in ROOT.rglob("*") if path.is_file() and not made & set(path.parts)]


@cache
def texts() -> dict[Path, str]:
    """Returns the text of each file. One of a test beside this one may be gone by then."""
    found = {}
    for path in tracked_files():
        if path.suffix != ".png":
            with suppress(FileNotFoundError):
                found[path] = path.read_text(errors="replace")
    return found


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path, text in texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_an_optional_package_is_imported_by_one_module(extra: str) -> None:
    """All others go through it. A broker's package has one module for each direction of ids."""
    users = [
        module.removeprefix(f"{NAME}.")
        for module, path in modules(NAME).items()
        if any(name.split(".")[0] == extra for _, name in facts(path).imports)
    ]
    if len(users) > 1:
        assert [module.split(".")[0] for module in users] == ["backends", "workers"], users
    assert users


def test_every_logger_is_a_safe_one() -> None:
    """A filter of the project's that raises would end the thread that logs: see `safe_logging`."""
    direct = [
        module
        for module, path in modules(NAME).items()
        if "getLogger" in facts(path).attributes and module != f"{NAME}.safe_logging"
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
