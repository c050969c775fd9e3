"""`docs/own-schema.md`: its blocks are the files of a project that works."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from devservers.process import ROOT
from rail_async_tasks.asgi import get_asgi_application

PAGE = ROOT / "docs" / "own-schema.md"
BLOCK = re.compile(r"```python\n# (shop/\w+\.py)\n(.*?)```", re.DOTALL)

# What the page promises, asked over HTTP of the project that it shows.
ASK = """
import asyncio, json, os, sys, time
import django
django.setup()
from django.core.management import call_command
from django.conf import settings
settings.ALLOWED_HOSTS = ["testserver"]
call_command("migrate", verbosity=0)
call_command("check", fail_level="WARNING" if sys.argv[1] == "asgi" else "ERROR")
import shop.masking, shop.guarded
from django.test import AsyncClient

async def post(url, query, **headers):
    client = AsyncClient()
    response = await client.post(url, {"query": query}, "application/json", headers=headers)
    if response.streaming:
        return [chunk.decode() async for chunk in response]
    return response.json()

async def main():
    for url in ("/graphql/", "/tasks-graphql/"):
        answer = await post(url, '{ openedOn } ')
        assert answer == {"data": {"openedOn": "2026-01-16"}}, answer
        answer = await post(url, 'mutation { countStock(shelf: "top") { taskId status } }')
        id_ = answer["data"]["countStock"]["taskId"]
        stream = await post(
            url, 'subscription { taskProgress(taskId: "%s") { status result } }' % id_,
            accept="text/event-stream",
        )
        assert '"completed"' in "".join(stream) and '"boxes": 3' in "".join(stream).replace(
            '"boxes":3', '"boxes": 3'), stream
        answer = await post(url, '{ task(id: "%s") { status } }' % id_)
        assert answer["data"]["task"] == {"status": "completed"}
        answer = await post(url, '{ task(id: "1") { status } }')
        assert answer["errors"][0]["extensions"] == {"code": "NOT_FOUND"}
    rest = await AsyncClient().get("/api/v1/tasks/%s/" % id_)
    assert rest.json()["result"] == {"shelf": "top", "boxes": 3}

    import strawberry
    from rail_async_tasks.graphql import Query
    from shop.masking import masked
    schema = strawberry.Schema(query=Query, extensions=[masked])
    answer = await schema.execute('{ task(id: "1") { id } }')
    assert answer.errors[0].extensions == {"code": "NOT_FOUND"}, answer

asyncio.run(main())
print("works")
"""
RENAMED = """
import django
django.setup()
from shop.schema import schema
sdl = str(schema)
for word in ("backgroundTasks(", "backgroundTask(", "): StartedTask", "type BackgroundTask "):
    assert word in sdl, word
for word in ("cancelTask", "TaskExecution", "TaskMutationPayload"):
    assert word not in sdl, word
print("works")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files that the page shows."""
    blocks = BLOCK.findall(PAGE.read_text())
    assert len(blocks) == PAGE.read_text().count("```python")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    if not takes_websockets():
        (tmp_path / "shop" / "asgi.py").unlink()
    return tmp_path


def takes_websockets() -> bool:
    return "websocket" in inspect.signature(get_asgi_application).parameters


def run(project: Path, code: str, settings: str) -> str:
    """The output of a script in the project."""
    done = subprocess.run(
        [sys.executable, "-c", code, "asgi" if takes_websockets() else ""],
        cwd=project,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": settings, "PYTHONPATH": f".:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_project_of_the_page(project: Path) -> None:
    """Its own view and ours start, stream and read tasks of its own schema."""
    assert run(project, ASK, "shop.settings").endswith("works\n")


def test_its_other_names(project: Path) -> None:
    """The settings that rename."""
    assert run(project, RENAMED, "shop.renamed_settings") == "works\n"
