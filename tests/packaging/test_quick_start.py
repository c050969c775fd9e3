"""The quick start, pasted by someone who has nothing but Python, pip and the released wheel."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.remote.webdriver import WebDriver

from tests.packaging.outside import locked_versions, new_environment
from tests.support.bars import bar_moves
from tests.support.needs import unavailable
from tests.support.pages import ROOT, read
from tests.support.reader import Reader

pytestmark = pytest.mark.browser

# The servers of the page; what a reader installs for them first.
SERVERS = {
    "uvicorn root.asgi:application": None,
    "python manage.py runserver": None,
    "daphne root.asgi:application": 'pip install "rail_async_tasks[daphne]"',
}
WHERE = """
python - <<END
import json, sys
from importlib.metadata import distribution
import rail_async_tasks
direct = distribution("rail_async_tasks").read_text("direct_url.json")
print(json.dumps([rail_async_tasks.__file__, sys.prefix, json.loads(direct or "null")]))
END
"""


@pytest.fixture(scope="module")
def reader(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader in an empty folder and a new environment, who has pasted everything.

    pip finds the wheel beside the index, in the versions of the lock.
    """
    folder = tmp_path_factory.mktemp("newcomer")
    python = new_environment(folder / "env", "--seed")
    constraints = folder / "constraints.txt"
    ours = f"rail_async_tasks @ {wheel.as_uri()}"
    constraints.write_text("\n".join([*locked_versions(), ours]))
    found = f"{wheel.parent} {os.environ.get('PIP_FIND_LINKS', '')}".strip()
    env = {"PIP_FIND_LINKS": found, "PIP_CONSTRAINT": str(constraints)}
    (folder / "project").mkdir()
    with Reader(folder / "project", python, env) as reader:
        try:
            reader.follow(read(ROOT / "docs" / "quick-start.md"))
        except AssertionError as error:
            if "NewConnectionError" in str(error) or "Temporary failure" in str(error):
                unavailable("The package index can't be reached.")
            raise
        yield reader


def test_the_wheel_is_what_is_tried(reader: Reader, wheel: Path) -> None:
    """Nothing of the checkout, and no release of an index."""
    file, prefix, direct = json.loads(reader.run(WHERE, "where it is"))
    assert Path(file).is_relative_to(prefix)
    assert Path(prefix) == reader.folder.parent / "env"
    assert direct["url"] == wheel.as_uri()


@pytest.mark.parametrize("command", SERVERS)
def test_the_bar_moves(reader: Reader, browser: WebDriver, command: str) -> None:
    """Under the server of the page, and under the two others that a newcomer may have."""
    if (install := SERVERS[command]) is not None:
        reader.run(install, command)
    reader.stop_servers()
    reader.serve(command)
    bar_moves(browser, reader.url)
    reader.assert_servers_are_well()
