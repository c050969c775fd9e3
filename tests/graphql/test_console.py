"""The console, in a browser: everything on it works, and it loads from its own server alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.services.browser import leave_page
from tests.support.server import Server
from tests.support.shop_server import running_shop
from tests.support.waiting import TIMEOUT

pytestmark = pytest.mark.browser

FOLLOW = "subscription F($id: ID!) { taskProgress(taskId: $id) { status progress } }"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Server]:
    with running_shop(tmp_path_factory, template=sqlite_template) as it:
        yield it


class Console:
    """The page."""

    def __init__(self, driver: Chrome, server: Server) -> None:
        self.driver = driver
        leave_page(driver)
        driver.get(server.url)
        self.wait_for("climb", "schema")

    def find(self, id_: str) -> WebElement:
        return self.driver.find_element(By.ID, id_)

    def wait_for(self, text: str, id_: str) -> None:
        WebDriverWait(self.driver, TIMEOUT).until(
            lambda _: text in self.find(id_).text, f"no {text!r} in {id_}"
        )

    def write(self, query: str, variables: Any = None) -> None:
        script = "document.getElementById(arguments[0]).value = arguments[1]"
        self.driver.execute_script(script, "query", query)
        written = "" if variables is None else json.dumps(variables)
        self.driver.execute_script(script, "variables", written)

    def run(self, query: str, variables: Any = None) -> None:
        self.find("clear").click()
        self.write(query, variables)
        self.find("run").click()

    def frames(self) -> list[Any]:
        shown = self.find("output").find_elements(By.TAG_NAME, "pre")
        return [json.loads(it.get_attribute("textContent") or "") for it in shown]

    def start(self, call: str) -> str:
        self.run(f"mutation {{ climb({call}) {{ taskId }} }}")
        self.wait_for("taskId", "output")
        return str(self.frames()[0]["data"]["climb"]["taskId"])


@pytest.fixture
def console(browser: Chrome, server: Server) -> Iterator[Console]:
    """The page, loaded anew; nothing may complain or come from elsewhere."""
    page = Console(browser, server)
    yield page
    assert browser.get_log("browser") == []
    script = "return performance.getEntriesByType('resource').map(it => it.name)"
    origin = server.url.removesuffix("graphql/")
    assert [it for it in browser.execute_script(script) if not it.startswith(origin)] == []


def test_a_query_is_answered(console: Console) -> None:
    """By the button and by Ctrl-Enter; the state line has status and time."""
    console.run("{ shelves }")
    console.wait_for("200 in", "state")
    assert console.frames() == [{"data": {"shelves": 3}}]
    console.find("query").send_keys(Keys.CONTROL, Keys.ENTER)
    WebDriverWait(console.driver, TIMEOUT).until(lambda _: len(console.frames()) == 2)
    console.run("{ nothing }")
    console.wait_for("Cannot query field", "output")
    console.run("{ shelves }", "not an object")
    console.wait_for("must be an object", "output")
    logged: list[Any] = []

    def is_logged(driver: Chrome) -> list[Any]:
        logged.extend(driver.get_log("browser"))
        return logged

    # The log comes by a way of its own.
    WebDriverWait(console.driver, TIMEOUT).until(is_logged)
    (complaint,) = logged
    assert "400" in complaint["message"]


@pytest.mark.parametrize("transport", ["sse", "ws"])
def test_a_subscription_is_followed_to_its_end(
    console: Console, transport: str, tmp_path: Path
) -> None:
    """Over both transports its frames come one by one, and the end is shown."""
    Select(console.find("transport")).select_by_value(transport)
    console.run(FOLLOW, {"id": console.start(f'steps: 1, seen: "{tmp_path}"')})
    console.wait_for("running", "output")
    (tmp_path / "step 1").touch()  # now it may end
    console.wait_for("Complete,", "state")
    tasks = [frame["data"]["taskProgress"] for frame in console.frames()]
    assert len(tasks) >= 2
    assert tasks[-1] == {"status": "completed", "progress": 100}


@pytest.mark.parametrize("transport", ["sse", "ws"])
def test_a_subscription_can_be_stopped(console: Console, transport: str) -> None:
    """Then the next operation can be run."""
    task_id = console.start("steps: 100000, pause: 0.1")
    Select(console.find("transport")).select_by_value(transport)
    console.run(FOLLOW, {"id": task_id})
    console.wait_for("running", "output")
    console.find("stop").click()
    console.wait_for("Stopped", "state")
    console.run("mutation C($id: ID!) { cancelTask(id: $id) { id } }", {"id": task_id})
    console.wait_for("200 in", "state")


@pytest.mark.parametrize("transport", ["sse", "ws"])
def test_a_refused_subscription_is_shown(console: Console, transport: str) -> None:
    """With its code."""
    Select(console.find("transport")).select_by_value(transport)
    console.run(FOLLOW, {"id": "nonsense"})
    console.wait_for("NOT_FOUND", "output")
    console.wait_for("Complete", "state")


def test_of_several_operations_the_one_at_the_cursor_runs(console: Console) -> None:
    """Words and braces in strings and comments are none."""
    first = '# query X {\nquery One { __typename tasks(name: "query {") { id } }\n'
    console.write(first + "query Two { shelves }")
    script = "document.getElementById('query').setSelectionRange(arguments[0], arguments[0])"
    for position, data in (
        (len(first) + 9, {"shelves": 3}),
        (20, {"__typename": "Query", "tasks": []}),
    ):
        console.find("clear").click()
        console.driver.execute_script(script, position)
        console.find("run").click()
        WebDriverWait(console.driver, TIMEOUT).until(lambda _: len(console.frames()) == 1)
        assert console.frames() == [{"data": data}]


def test_the_schema_is_browsed(console: Console) -> None:
    """Fields with arguments and descriptions; a click writes the operation, the filter narrows."""
    shown = console.find("schema").text
    for text in ("add(a: Int!, b: Int! = 2): TaskMutationPayload", "Add two numbers.", "Size"):
        assert text in shown
    console.find("filter").send_keys("myTaskUpd")
    assert "add(a:" not in console.find("schema").text
    console.find("schema").find_element(By.TAG_NAME, "button").click()
    written = console.find("query").get_attribute("value") or ""
    assert written.startswith("subscription MyTaskUpdates {\n  myTaskUpdates {\n    id\n")
    console.find("filter").clear()
    console.find("filter").send_keys("cancelTask")
    console.find("schema").find_element(By.TAG_NAME, "button").click()
    console.find("run").click()
    console.wait_for("NOT_FOUND", "output")


def test_each_sample_is_a_valid_operation(console: Console) -> None:
    """The page's examples work against the schema as it is."""
    samples = Select(console.find("samples"))
    for index in range(len(samples.options)):
        samples.select_by_index(index)
        if "subscription" in (console.find("query").get_attribute("value") or ""):
            continue
        console.find("clear").click()
        console.find("run").click()
        WebDriverWait(console.driver, TIMEOUT).until(lambda _: len(console.frames()) == 1)
        (answer,) = console.frames()
        codes = [error.get("extensions", {}).get("code") for error in answer.get("errors", [])]
        assert codes in ([], ["NOT_FOUND"])
