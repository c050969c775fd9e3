"""docs/graphql-clients.md: every block is run, literally."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from graphql import OperationDefinitionNode, OperationType, parse, print_ast
from selenium.webdriver import Chrome

from tests.clients.conftest import place_of
from tests.clients.page_blocks import blocks, in_language, named
from tests.clients.tab import Tab
from tests.support.client import plain_http
from tests.support.server import Server

REPORT = 'mutation { it: generateReport(datasetId: "42") { taskId } }'

# The scripts that start a report and show it in a bar and an output, each by itself.
WHOLE = (
    "follow.js", "graphql-ws.js", "graphql-sse.js", "urql.js", "apollo.js", "event-source.js",
)  # fmt: skip
# Those of the other tests below.
OTHERS = ("events.js", "callbacks.js", "page.js")
# Files of the site that the server runs on; the settings' block is executed by its settings.
FILES = (
    "root/settings.py", "reports/tasks.py", "reports/tokens.py", "reports/views.py",
    "reports/urls.py", "reports/htmx_views.py",
    "reports/templates/reports/report.html", "reports/templates/reports/new.html",
    "reports/templates/reports/htmx.html", "reports/templates/reports/bar.html",
    "reports/templates/reports/events.html", "reports/templates/reports/state.html",
)  # fmt: skip


def test_no_block_is_left_out() -> None:
    """A new block needs a test: it is a script, a file of the site, or in a language below."""
    names = [block.name for block in blocks() if block.language in ("js", "python", "html")]
    assert sorted(names) == sorted([*WHOLE, *OTHERS, *FILES])
    assert {block.language for block in blocks()} == {
        "js",
        "python",
        "html",
        "graphql",
        "css",
        "sh",
    }
    assert len(in_language("css")) == len(in_language("sh")) == 1


@pytest.fixture
def tab(browser: Chrome, server: Server) -> Iterator[Tab]:
    """A page, which must not complain in the browser's console."""
    tab = Tab(browser, server)
    yield tab
    complaints = tab.complaints()
    browser.get("about:blank")
    assert complaints == []


def _output(tab: Tab) -> list[Any]:
    output: list[Any] = tab.run(
        "return [document.querySelector('output').value, document.querySelector('progress').value]"
    )
    return output


@pytest.mark.browser
@pytest.mark.parametrize("script", WHOLE)
def test_a_script_shows_a_report_to_its_end(tab: Tab, script: str) -> None:
    """It starts a report, and shows the last state of it."""
    tab.open(f"/shell/{script}/")
    tab.wait("the end", lambda: _output(tab) == ["completed", 100])


@pytest.mark.browser
def test_callbacks(tab: Tab) -> None:
    """They show the task that the URL names, and the transport."""
    tab.open(f"/shell/callbacks.js/?task={tab.request(REPORT)}")
    tab.wait("the end", lambda: _output(tab) == ["completed", 100])
    assert tab.run("return document.body.dataset.transport") == "ws"


@pytest.mark.browser
def test_a_page_of_another_site_with_a_token(browser: Chrome, server: Server) -> None:
    """The page is on localhost, the API on 127.0.0.1: CORS, a bearer, and words of the page."""
    tab = Tab(browser, server)
    task_id, api = tab.request(REPORT), tab.base
    tab.base = f"http://localhost:{server.port}"
    tab.open("/as/ada/")
    tab.open("/shell/?loose")
    source = named("page.js").text
    assert "https://api.example.com" in source
    tab.run(
        "document.head.append(Object.assign(document.createElement('script'),"
        " { type: 'module', textContent: arguments[0] }))",
        source.replace("https://api.example.com", api),
    )
    tab.add("a", id=task_id)
    tab.add("b", id=task_id, transports="sse")
    for bar in "ab":
        assert tab.until(bar, "completed")["status"] == "Fertig"
    assert tab.complaints() == []
    browser.get("about:blank")


@pytest.mark.browser
def test_plain_templates(tab: Tab, browser: Chrome) -> None:
    """The form leads to the page with the bar, whose events a script hears, and which is styled."""
    tab.open("/reports/new/")
    browser.find_element("css selector", "button").click()
    tab.wait("the bar", lambda: tab.run("return Boolean(document.querySelector('rail-task'))"))
    tab.run("document.querySelector('rail-task').dataset.bar = 'a'")
    tab.run(named("events.js").text)
    sheet = in_language("css")[0].text
    tab.run("document.head.append(document.createElement('style'))")
    tab.run("document.querySelector('head style').textContent = arguments[0]", sheet)
    tab.until("a", "completed")
    text = "return document.body.innerText"
    tab.wait("what the listener adds", lambda: "completed: 20 pages" in tab.run(text))
    assert tab.style("fill", "backgroundColor") == "rgb(46, 139, 87)"
    assert tab.style("bar", "height") == "12px"
    assert tab.style("status", "display") == "none"
    used = set(re.findall(r"--rail-task-[\w-]+", sheet))
    script = Path(__file__).parents[2] / "rail_async_tasks/static/rail_async_tasks/task.js"
    assert used == set(re.findall(r"--rail-task-[\w-]+", script.read_text()))


# Notes each value of the bar that HTMX shows.
NOTE_VALUES = """
window.values = [];
new MutationObserver(() => {
  const bar = document.querySelector("#report progress");
  if (bar) values.push(bar.value);
}).observe(document.body, { childList: true, subtree: true });
"""


@pytest.mark.browser
@pytest.mark.parametrize("button", ["Generate", "Generate, without task.js"])
def test_htmx(tab: Tab, browser: Chrome, button: str) -> None:
    """`hx-post` starts the report; its bar moves in the page, and its result is loaded."""
    tab.open("/reports/htmx/")
    tab.run(NOTE_VALUES)
    found = [it for it in browser.find_elements("css selector", "button") if it.text == button]
    found[0].click()
    text = "return document.querySelector('#report').innerText"
    if button == "Generate":
        tab.wait("the result", lambda: "20 pages" in tab.run(text))
        return
    tab.wait("the end", lambda: "completed" in tab.run(text))
    values = tab.run("return values")
    assert values == sorted(values)
    assert any(0 < value < 100 for value in values), values
    assert tab.run("return document.querySelector('[sse-connect]')") is None
    # The extension logs that the server has ended the stream, as it does after the final state.
    assert all("htmx" in it and "[object Event]" in it for it in tab.complaints())


def operations() -> Iterator[tuple[str, str]]:
    for block in in_language("graphql"):
        for node in parse(block.text).definitions:
            assert isinstance(node, OperationDefinitionNode)
            assert node.name is not None
            yield node.name.value, print_ast(node)


@pytest.mark.parametrize(
    ("name", "document"), list(operations()), ids=[name for name, _ in operations()]
)
async def test_an_operation(server: Server, name: str, document: str) -> None:
    """Each is answered without an error; `Follow` to the final state."""
    token = place_of(server)["token"]
    headers = {"authorization": f"Bearer {token}"}
    async with plain_http(timeout=60, headers=headers) as http:

        async def send(query: str, **variables: str) -> Any:
            body = {"query": query, "variables": variables}
            return (await http.post(server.url, json=body)).json()

        task_id = (await send(REPORT))["data"]["it"]["taskId"]
        variables = {"id": task_id, "dataset": "42"}
        (node,) = parse(document).definitions
        assert isinstance(node, OperationDefinitionNode)
        if name == "Retry":
            await _events(http, server, FOLLOW, variables, until="completed")
        if node.operation is OperationType.SUBSCRIPTION:
            until = "completed" if name == "Follow" else task_id
            await _events(http, server, document, variables, until=until)
        else:
            answer = await send(document, **variables)
            assert "errors" not in answer, answer
            assert all(answer["data"].values())


FOLLOW = "subscription($id: ID!) { taskProgress(taskId: $id) { status } }"


async def _events(
    http: httpx.AsyncClient, server: Server, query: str, variables: dict[str, str], until: str
) -> None:
    """Reads a stream until an event has that text."""
    body = {"query": query, "variables": variables}
    accept = {"accept": "text/event-stream"}
    async with http.stream("POST", server.url, json=body, headers=accept) as response:
        async for line in response.aiter_lines():
            assert '"errors"' not in line, line
            if until in line:
                return
    raise AssertionError(f"The stream has ended without {until}.")


def test_the_shell_block(server: Server, tmp_path: Path) -> None:
    """All of it at once; the address alone is another one."""
    (block,) = in_language("sh")
    assert "http://127.0.0.1:8000" in block.text
    script = block.text.replace("http://127.0.0.1:8000", server.url.removesuffix("/graphql/"))
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert sum('"status":"completed"' in re.sub(r"\s", "", line) for line in lines) == 3, ran.stdout
    assert json.loads(lines[-1])["status"] == "completed"
