"""`docs/own-schema.md`, followed over a project that is there and has no tasks yet."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from tests.support.bars import SLOWER, bar_moves
from tests.support.pages import ROOT, read
from tests.support.reader import Reader
from tests.support.reader_python import interpreter
from tests.support.waiting import wait_for

pytestmark = pytest.mark.browser

BEFORE = ROOT / "tests" / "projects" / "chat"
PAGE = ROOT / "docs" / "own-schema.md"
UVICORN, DAPHNE = "uvicorn root.asgi:application", "daphne root.asgi:application"
BOOKS = [
    "Emma by Austen, 9.50 NOK",
    "Persuasion by Austen, 8.00 NOK",
    "Tristram Shandy by Sterne, 12.00 NOK",
]
CHAT = "Hello, says AnonymousUser among 3 books"

# Asked of the project in a process of its own.
ASK = """
import asyncio
import django
django.setup()
from django.core.management import call_command
call_command("check", fail_level="WARNING")
import shop.masking, shop.guarded
from django.test import AsyncClient
from django.urls import path
from root import urls
from shop.schema import schema
from shop.task_view import ShopTaskView
urls.urlpatterns.append(path("shop-tasks/", ShopTaskView.as_view(schema=schema)))

async def post(url, query, **headers):
    client = AsyncClient()
    response = await client.post(url, {"query": query}, "application/json", headers=headers)
    if response.streaming:
        return "".join([chunk.decode() async for chunk in response])
    return response.json()

async def main():
    for url in ("/api/", "/tasks-graphql/"):
        answer = await post(url, "{ openedOn }")
        assert answer == {"data": {"openedOn": "2026-01-16"}}, answer
        answer = await post(url, "mutation { countStock(shelves: 1) { taskId status } }")
        id_ = answer["data"]["countStock"]["taskId"]
        stream = await post(
            url, 'subscription { taskProgress(taskId: "%s") { status result } }' % id_,
            accept="text/event-stream",
        )
        assert '"completed"' in stream and '"boxes":3' in stream.replace(" ", ""), stream
        answer = await post(url, '{ task(id: "%s") { status } }' % id_)
        assert answer["data"]["task"] == {"status": "completed"}, answer
        answer = await post(url, '{ task(id: "1") { status } }')
        assert answer["errors"][0]["extensions"] == {"code": "NOT_FOUND"}, answer
    answer = await post("/shop-tasks/", "{ books { price } }", **{"x-currency": "SEK"})
    assert answer["data"]["books"][0] == {"price": "9.50 SEK"}, answer
    rest = await AsyncClient().get("/api/v1/tasks/%s/" % id_)
    assert rest.json()["result"] == {"shelves": 1, "boxes": 3}, rest.json()

    import strawberry
    from rail_async_tasks.graphql import Query
    from shop.masking import masked
    own = strawberry.Schema(query=Query, extensions=[masked])
    answer = await own.execute('{ task(id: "1") { id } }')
    assert answer.errors[0].extensions == {"code": "NOT_FOUND"}, answer

asyncio.run(main())
"""
RENAMED = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "root.renamed_settings"
import django
django.setup()
from shop.schema import schema
sdl = str(schema)
for word in ("backgroundTasks(", "backgroundTask(", "): StartedTask", "type BackgroundTask "):
    assert word in sdl, word
for word in ("cancelTask", "TaskExecution", "TaskMutationPayload"):
    assert word not in sdl, word
"""


def works(browser: WebDriver, reader: Reader) -> None:
    """Asserts that the project's page has its books, by one query of SQL, and its chat answers."""
    server = reader.servers[-1]
    before = len(server.said())
    browser.get(reader.url)

    def shown() -> tuple[list[str], str]:
        books = [it.text for it in browser.find_elements(By.TAG_NAME, "li")]
        return books, browser.find_element(By.TAG_NAME, "output").text

    wait_for(lambda: shown() == (BOOKS, CHAT), shown)
    lines = server.said()[before:].splitlines()
    selects = [it for it in lines if 'FROM "shop_' in it and "COUNT" not in it]
    # The optimizer has joined the authors, and left out the column that was not asked for.
    assert len(selects) == 1, selects
    assert 'INNER JOIN "shop_author"' in selects[0]
    assert "blurb" not in selects[0]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, browser: WebDriver) -> Iterator[Reader]:
    """A reader whose project has worked without tasks, and who has followed the page since."""
    folder = tmp_path_factory.mktemp("own-schema") / "project"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(BEFORE, folder, ignore=ignored)
    with Reader(folder, interpreter(), replace=SLOWER) as reader:
        for command in ("migrate", "loaddata books"):
            reader.manage(f"python manage.py {command}", "before")
        reader.serve(UVICORN)
        works(browser, reader)
        reader.follow(read(PAGE))
        yield reader


@pytest.mark.parametrize("command", [UVICORN, pytest.param(DAPHNE, marks=pytest.mark.long)])
def test_a_bar_moves_and_the_project_goes_on(
    reader: Reader, browser: WebDriver, command: str
) -> None:
    """By the project's own URL, view, context, optimizer and chat."""
    reader.stop_servers()
    reader.serve(command)
    bar_moves(browser, f"{reader.url}/stock/")
    log = reader.servers[-1].said()
    assert "WebSocket refused" not in log, log
    works(browser, reader)
    reader.assert_servers_are_well()


def test_both_views_serve_the_schema(reader: Reader) -> None:
    """The project's own and ours: starts, streams, reads, codes, and REST."""
    reader.ask(ASK, str(PAGE))


def test_its_other_names(reader: Reader) -> None:
    """The settings that rename."""
    reader.ask(RENAMED, str(PAGE))


@pytest.mark.parametrize("name", ["shop/schema.py", "shop/views.py", "root/urls.py"])
def test_the_page_shows_the_project_as_it_is(name: str) -> None:
    """Each line of its file is the project's own, or is marked as new or changed."""
    (block,) = [it for it in read(PAGE).blocks if it.file == name]
    own = (BEFORE / name).read_text().splitlines()
    marks = ("# new", " is new", "# was: ", "subscription_protocols=[")
    shown = block.text.splitlines()[1:]
    assert [it for it in shown if it not in own and not any(mark in it for mark in marks)] == []
