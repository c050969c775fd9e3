"""The quick start, pasted into an empty folder: its bar moves in a browser, under each server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver.remote.webdriver import WebDriver

from tests.support.bars import SLOWER, bar_moves
from tests.support.pages import ROOT, read
from tests.support.reader import Reader
from tests.support.reader_python import interpreter

pytestmark = pytest.mark.browser

# The server of the page; tests/packaging does the same with the wheel, under all three.
SHORT = "uvicorn root.asgi:application"
OTHERS = ("daphne root.asgi:application", "python manage.py runserver")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader who has pasted everything, and started the server of the page."""
    folder = tmp_path_factory.mktemp("reader") / "project"
    folder.mkdir()
    with Reader(folder, interpreter(), replace=SLOWER) as reader:
        reader.follow(read(ROOT / "docs" / "quick-start.md"))
        yield reader


@pytest.mark.parametrize(
    "command", [SHORT, *(pytest.param(it, marks=pytest.mark.long) for it in OTHERS)]
)
def test_the_bar_moves(reader: Reader, browser: WebDriver, command: str) -> None:
    """Under the server of the page, and under the two others that a newcomer may have."""
    if command != SHORT:
        reader.stop_servers()
        reader.serve(command)
    bar_moves(browser, reader.url)
    assert not reader.servers[-1].alarms()
