"""The example project's own tests, and every block of docs/testing.md, run as they are written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "testing.md"
# A block's language, its file in the first line, and the rest.
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# What `startproject` and the quick start have made before this page is read.
SETTINGS = """
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent
SECRET_KEY = "only for tests, and long enough to sign with"
ROOT_URLCONF = "urls"
STATIC_URL = "/static/"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
INSTALLED_APPS = [
    "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
    "channels", "strawberry_django", "rail_async_tasks", "reports",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
"""
URLS = """
from django.urls import include, path

urlpatterns = [path("", include("rail_async_tasks.urls"))]
"""
MANAGE = """
import os, sys
from django.core.management import execute_from_command_line

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
execute_from_command_line(sys.argv)
"""


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={key: it for key, it in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_example_projects_own_tests() -> None:
    """By pytest, which runs both kinds."""
    output = run(ROOT / "example_project", "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert re.search(r"\b8 passed", output), output


def test_the_example_projects_test_case() -> None:
    """By Django's runner."""
    output = run(ROOT, "-m", "example_project.manage", "test", "--pattern", "test_cases.py")
    assert re.search(r"Ran 2 tests.*\n\nOK", output, re.DOTALL), output


def test_the_page(tmp_path: Path) -> None:
    """Each block is a file of a project, or a command that runs in it."""
    texts = {"settings.py": SETTINGS, "urls.py": URLS, "manage.py": MANAGE}
    commands = []
    for language, block in BLOCK.findall(PAGE.read_text()):
        named = re.match(r"# (\S+)\n", block)
        if language == "shell":
            commands += block.splitlines()
        elif language == "text":
            shown = block
        else:
            assert named, block
            texts[named[1]] = texts.get(named[1], "") + block
    for name in ("reports/__init__.py", "reports/tests/__init__.py"):
        texts[name] = ""
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    # The failure that the page shows.
    (tmp_path / "reports/tests/test_shown.py").write_text(
        "from reports.tasks import generate_report\n"
        "def test_it(rail_tasks):\n"
        "    generate_report.enqueue(title='Sales', pages=10)\n"
        "    try:\n"
        "        rail_tasks.assert_enqueued(generate_report, title='Costs')\n"
        "    except AssertionError as error:\n"
        f"        assert {shown.strip()!r} == f'AssertionError: {{error}}'\n"
        "    else:\n"
        "        assert False\n"
    )

    output = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error")
    tests = 1 + sum(
        len(re.findall(r"^ *(?:async )?def test_", it, re.MULTILINE)) for it in texts.values()
    )
    assert re.search(rf"\b{tests} passed in", output), output

    assert commands == ["python manage.py test"]
    for command in commands:
        output = run(tmp_path, *command.split()[1:], "--pattern", "test_cases.py")
        assert "Ran 2 tests" in output, output
