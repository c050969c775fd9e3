"""Every page is followed to the letter, and every block of code runs or says why not."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.pages import REDIS, ROOT, RUN, read
from tests.support.reader import Reader
from tests.support.reader_python import interpreter

# Pages whose blocks other tests run, one by one.
FOLLOWED_BY: dict[str, str] = {
    "docs/from-celery.md": "tests/docs/test_from_celery.py",
    "docs/from-celery-project.md": "tests/docs/test_from_celery.py",
    "docs/testing.md": "tests/testing/test_examples.py",
    "docs/graphql-clients.md": "tests/clients/test_graphql_clients_page.py",
    "docs/own-schema.md": "tests/docs/test_own_schema.py",
    "docs/quick-start.md": "tests/docs/test_quick_start.py",
    "docs/telemetry.md": "tests/docs/test_telemetry.py",
}
# Each starts workers of its own; docs/backends/arq.md stands for them in `make test`.
LONG = ("docs/backends/celery.md", "docs/backends/dramatiq.md", "docs/backends/django-q.md")
# As the page about django.tasks says of Django 5.2.
OLDER_DJANGO = {} if find_spec("django.tasks") else {"django.tasks": "django_tasks"}

PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    if "decisions" not in path.parts
)


def _case(name: str) -> Any:
    """The page, marked with what its blocks need."""
    run = [it for it in read(ROOT / name).blocks if it.skipped is None and it.language in RUN]
    marks = [pytest.mark.long] if name in LONG else []
    if any(REDIS in it.text for it in run):
        marks.append(pytest.mark.redis)
    if any(it.language == "js" and it.file is None for it in run):
        marks.append(pytest.mark.browser)
    return pytest.param(name, id=name, marks=marks) if run else None


CASES = [case for name in PAGES if name not in FOLLOWED_BY and (case := _case(name)) is not None]


@pytest.mark.parametrize("name", CASES)
def test_every_block_of_a_page_runs(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """In its order, in a project that grows as the page says."""
    folder = tmp_path / "project"
    folder.mkdir()
    marks = {it.name for it in request.node.iter_markers()}
    needs: dict[str, Any] = {"replace": dict(OLDER_DJANGO)}
    if "redis" in marks:
        needs["replace"][REDIS] = f"127.0.0.1:{request.getfixturevalue('own_redis').port}"
    if "browser" in marks:
        needs["browser"] = request.getfixturevalue("browser")
    with Reader(folder, interpreter(), **needs) as reader:
        reader.follow(read(ROOT / name))
        reader.check()
        reader.assert_servers_are_well()


def test_a_page_that_others_follow_is_read_by_them() -> None:
    """The test names the page."""
    for page, test in FOLLOWED_BY.items():
        assert Path(page).name in (ROOT / test).read_text(), f"{test} does not read {page}"


def test_a_reason_is_given_for_each_block_that_is_not_run() -> None:
    """In words: `not run: X` with a few of them."""
    for name in PAGES:
        for block in read(ROOT / name).blocks:
            assert block.skipped is None or len(block.skipped.split()) >= 3, str(block)
