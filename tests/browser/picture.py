"""Takes the documentation's picture of the demo: `python -m tests.browser.picture`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.browser.demo import ROOT, Page, running_demo
from tests.services.browser import running_browser

TARGET = ROOT / "docs" / "images" / "demo.png"


def main() -> None:
    """A busy moment: an import on its way, a hundred ticks half done, a chart just drawn."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_browser(Path(folder, "profile")) as browser,
        running_demo(Path(folder, "demo")) as demo,
    ):
        page = Page(browser, demo.url)
        page.look(scale=1.5)
        page.open()
        page.wait("the samples", lambda: "reprice_cars" in page.text("#tasks"))
        page.finish(page.start("airport-map", "draw_chart"))
        page.start("flaky-sync", "flaky_sync")
        page.wait("a retry", lambda: "hung up on call 2" in page.text("#tasks"))
        page.click("hundred-ticks")
        row_id = page.start("import-airports", "import_airports")
        page.wait("the middle", lambda: page.row(row_id)["percent"] >= 40)
        TARGET.parent.mkdir(parents=True, exist_ok=True)
        assert browser.save_screenshot(str(TARGET))


if __name__ == "__main__":
    main()
