"""The demo, as a newcomer meets it: one command, one page, every button."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from selenium.webdriver import Chrome

from rail_async_tasks.models import TaskExecution
from tests.browser.demo import ARTIFACTS, Demo, Page, running_demo
from tests.services.browser import leave_page

pytestmark = pytest.mark.browser

AIRPORTS, CARS, TICKS = 3376, 406, 100
# What the demo starts by itself, without the export.
SAMPLES = 4


class FirstBar(NamedTuple):
    """Seconds from the start of the demo on: when its page was up, and when a bar moved."""

    up: float
    moving: float


def first_bar(demo: Demo, page: Page) -> FirstBar:
    up = time.monotonic() - demo.started_at
    first = page.wait("a bar", lambda: {row["id"]: row["percent"] for row in page.rows()})

    def moved() -> bool:
        return any(row["percent"] > first.get(row["id"], 100) for row in page.rows())

    page.wait("a bar to move", moved)
    return FirstBar(up, time.monotonic() - demo.started_at)


# Of the demo below, by its URL.
_first_bars: dict[str, FirstBar] = {}


@pytest.fixture(scope="module")
def demo(browser: Chrome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """One demo for the tests below. Its samples are done, but for the export of a minute."""
    with running_demo(tmp_path_factory.mktemp("demo")) as running:
        page = Page(browser, running.url).open()
        _first_bars[running.url] = first_bar(running, page)
        page.screenshot("demo-first-bar")

        def settled() -> bool:
            status = {row["name"]: row["status"] for row in page.rows()}
            export = status.pop("slow_export", None)
            return bool(export) and list(status.values()) == ["completed"] * SAMPLES

        # One that came later would be taken for what a test has started.
        page.wait("the samples", settled)
        yield running


@pytest.fixture
def page(browser: Chrome, demo: Demo) -> Iterator[Page]:
    """The page, loaded anew; a test fails if the browser's console complains."""
    # The page of a demo that an earlier test has ended still tries to connect: it is left first.
    leave_page(browser)
    page = Page(browser, demo.url)
    page.look()
    page.open()
    yield page
    assert page.complaints() == []


def test_a_bar_moves_within_ten_seconds(demo: Demo) -> None:
    """On an empty database: from the page to a bar of a sample that moves.

    On a machine that takes longer than five seconds to the page, within twice that time.
    """
    up, moving = _first_bars[demo.url]
    times = f"page up after {up:.1f} s, first bar moving after {moving:.1f} s"
    ARTIFACTS.joinpath("demo-first-bar.txt").write_text(f"{times}\n")
    assert moving - up < max(10, 2 * up), times


def test_import_airports_fills_its_table(page: Page, demo: Demo) -> None:
    """Every row of the CSV file is in the table after it, and the page shows how many."""
    demo.rows("DELETE FROM shop_airport")
    row = page.finish(page.start("import-airports", "import_airports"))
    assert row["status"] == "completed"
    assert f"{AIRPORTS:,}" in row["text"]
    assert demo.rows("SELECT count(*) FROM shop_airport") == [(AIRPORTS,)]
    page.wait("the tile", lambda: page.text("#stock-airports") == f"{AIRPORTS:,}")


def test_import_cars_fills_its_table_and_keeps_prices(page: Page, demo: Demo) -> None:
    """Missing cars come back, and those that are there keep their price."""
    demo.rows("DELETE FROM shop_car WHERE lot > 10")
    demo.rows("UPDATE shop_car SET price = 1234 WHERE lot = 1")
    row = page.finish(page.start("import-cars", "import_cars"))
    assert row["status"] == "completed"
    assert demo.rows("SELECT count(*) FROM shop_car") == [(CARS,)]
    assert demo.rows("SELECT price FROM shop_car WHERE lot = 1") == [(1234,)]


@pytest.mark.parametrize(
    ("key", "title"),
    [("airport-map", "airports of the United States"), ("fuel-economy", "drink less")],
)
def test_a_chart_is_drawn_and_shown(page: Page, demo: Demo, key: str, title: str) -> None:
    """The result is an SVG file of the table's rows, and the page shows it as a picture."""
    before = set(demo.files("charts"))
    row_id = page.start(key, "draw_chart")
    assert page.finish(row_id)["status"] == "completed"
    (chart,) = set(demo.files("charts")) - before
    assert title in chart.read_text()
    find = "return document.querySelector(`li[data-id='${arguments[0]}'] img`)?.naturalWidth"
    page.wait("the picture", lambda: page.run(find, row_id))
    page.screenshot(f"demo-{key}")


def test_reprice_cars_prices_every_car(page: Page, demo: Demo) -> None:
    """A plain `def` task changes the rows, and the average on the page follows."""
    demo.rows("UPDATE shop_car SET price = NULL")
    row = page.finish(page.start("reprice-cars", "reprice_cars"))
    assert row["status"] == "completed"
    assert demo.rows("SELECT count(*) FROM shop_car WHERE price > 0") == [(CARS,)]
    page.wait("the tile", lambda: page.text("#stock-price").startswith("$"))


def test_flaky_sync_succeeds_at_its_third_attempt(page: Page) -> None:
    """It fails, shows why, waits, and completes."""
    row_id = page.start("flaky-sync", "flaky_sync")

    def retrying() -> bool:
        row = page.row(row_id)
        return row is not None and row["status"] == "retrying" and "hung up" in row["text"]

    page.wait("a failed attempt to show", retrying)
    row = page.finish(row_id)
    assert row["status"] == "completed"
    assert "attempt 3 of 4" in row["text"]
    assert "hung up" not in row["text"]


def test_slow_export_can_be_cancelled(page: Page, demo: Demo) -> None:
    """Cancel ends it soon, and it leaves no unfinished file behind."""
    row_id = page.start("slow-export", "slow_export")
    page.wait("it to get going", lambda: page.row(row_id)["percent"] > 0)
    assert [it for it in demo.files("exports") if row_id in it.name and it.suffix == ".part"]
    page.press(row_id, "Cancel")
    assert page.finish(row_id)["status"] == "cancelled"
    assert [it for it in demo.files("exports") if row_id in it.name] == []


def test_always_fails_shows_its_error(page: Page) -> None:
    """The error's text and code, after the last attempt; Retry starts a new task."""
    row_id = page.start("always-fails", "always_fails")
    row = page.finish(row_id)
    assert row["status"] == "failed"
    assert "attempt 2 of 2" in row["text"]
    assert "exception" in row["text"]
    assert "The card expired in 1982." in row["text"]
    known = {row["id"] for row in page.rows()}
    page.press(row_id, "Retry")

    def again() -> bool:
        return any(r["id"] not in known and "again" in r["text"] for r in page.rows())

    page.wait("the new task", again)


# The middle lasts two seconds: looks from here may miss it.
_NOTE_THE_MIDDLE = """
new MutationObserver(() => {
  const cells = document.querySelectorAll("#tasks > li[data-name=tick] .cells i");
  const seen = new Set([...cells].map((cell) => cell.dataset.status));
  window.hasBeenInTheMiddle ||= seen.has("pending") && seen.has("completed");
}).observe(document.querySelector("#tasks"), { attributes: true, childList: true, subtree: true });
"""


def test_a_hundred_at_once_are_all_done(page: Page, demo: Demo) -> None:
    """One request starts a hundred tasks; one calm row shows them all, and all complete."""
    table = TaskExecution._meta.db_table
    count = f"SELECT count(*) FROM {table} WHERE name = 'tick' AND status = 'completed'"
    [(before,)] = demo.rows(count)
    page.run(_NOTE_THE_MIDDLE)
    page.click("hundred-ticks")

    def ticks() -> Any:
        return next((row for row in page.rows() if row["name"] == "tick"), None)

    page.wait("the middle", lambda: page.run("return window.hasBeenInTheMiddle"))
    page.screenshot("demo-hundred-at-once")
    page.wait("the end", lambda: ticks() and ticks()["status"] == "completed")
    assert ticks()["cells"] == ["completed"] * TICKS
    assert ticks()["places"] == []  # there is but one process
    assert "100 of 100 done" in ticks()["text"]
    assert demo.rows(count) == [(before + TICKS,)]
    assert len([row for row in page.rows() if row["name"] == "tick"]) == 1


def test_a_reload_in_the_middle_shows_the_bars_where_they_stand(page: Page) -> None:
    """The bar is there again, not lower than before, and goes on moving."""
    row_id = page.start("slow-export", "slow_export")
    page.wait("a bar in the middle", lambda: page.row(row_id)["percent"] >= 3)
    before = page.row(row_id)["percent"]
    page.open()
    row = page.wait("the row after the reload", lambda: page.row(row_id))
    assert row["status"] == "running"
    assert row["percent"] >= before
    page.wait("it to go on", lambda: page.row(row_id)["percent"] > row["percent"])
    page.screenshot("demo-after-reload")
    page.press(row_id, "Cancel")
    page.finish(row_id)


def test_what_has_finished_is_shown_after_a_reload(page: Page) -> None:
    """The stream starts with unfinished tasks; the finished ones come by a query."""
    row_id = page.start("flaky-sync", "flaky_sync")
    before = page.finish(row_id)
    page.open()
    after = page.wait("the row after the reload", lambda: page.row(row_id))
    assert after == before


def test_the_panes_show_what_is_behind_a_button(page: Page) -> None:
    """The Python, the GraphQL that was sent with its answer, and at most 50 frames."""
    row_id = page.start("slow-export", "slow_export")
    assert "async def slow_export(info):" in page.text("#python")
    assert "slowExport { taskId status task { ...Row } }" in page.text("#graphql")
    page.wait("the answer", lambda: row_id in page.text("#graphql"))
    frames = "return [...document.querySelectorAll('#frames li')].map((it) => it.innerText)"
    page.wait("its frames", lambda: any("slow_export running" in it for it in page.run(frames)))
    page.click("hundred-ticks")
    page.wait("more frames than fit", lambda: int(page.text("#frames-place").split()[0]) > 200)
    page.wait("the list to be drawn", lambda: len(page.run(frames)) == 50)
    page.press(row_id, "Cancel")
    page.finish(row_id)


def test_nothing_comes_from_anywhere_else(page: Page) -> None:
    """Every resource that the page has loaded is the demo's own."""
    names = page.run("return performance.getEntriesByType('resource').map((it) => it.name)")
    assert len(names) > 5
    assert [name for name in names if not name.startswith(page.url)] == []


@pytest.mark.parametrize(
    ("name", "look"),
    [
        ("dark", {"dark": True}),
        ("phone", {"width": 390, "height": 844}),
        ("phone-dark", {"width": 390, "height": 844, "dark": True}),
    ],
)
def test_the_page_fits_its_screen(page: Page, name: str, look: dict[str, int]) -> None:
    """In either colour scheme and on a phone nothing sticks out sideways."""
    page.look(**look)
    page.open()
    page.wait("the rows", page.rows)
    page.screenshot(f"demo-{name}")
    widths = "return [document.documentElement.scrollWidth, innerWidth]"
    needed, there = page.run(widths)
    assert needed <= there


@pytest.mark.long  # tests/acceptance/test_restart.py and test_servers.py show what servers do
def test_the_demo_ends_while_its_page_is_open_and_goes_on_at_the_next_start(
    browser: Chrome, tmp_path: Path
) -> None:
    """SIGTERM ends it in time; the page reconnects to the next one, where the task goes on."""
    with running_demo(tmp_path) as first:
        page = Page(browser, first.url)
        page.look()
        page.open()
        find = "return document.querySelector('li[data-name=slow_export]')?.dataset.id"
        row_id = page.wait("the sample export", lambda: page.run(find))
        page.wait("it to get going", lambda: page.row(row_id)["percent"] > 0)
        first.stop(seconds=60)
        assert "Traceback" not in first.output
        page.wait("the page to notice", lambda: not page.is_live())
    with running_demo(tmp_path, port=first.port, samples=False) as second:
        page.wait("the page to come back", page.is_live)
        page.wait("the export to run again", lambda: "attempt 2" in page.row(row_id)["text"])
        assert page.row(row_id)["status"] == "running"
        second.stop(seconds=60)
