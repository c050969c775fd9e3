"""Tests that let tasks run by themselves, before one that does not. Run by `tests/testing`."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import Group

from rail_async_tasks.hosting import process
from rail_async_tasks.testing import RailTasks, stop_runtime
from tests.projects.library.tasks import lend
from tests.projects.library.threads import threads_of_runtimes

LEND = 'mutation { lend(title: "Emma") { taskId } }'


def ends(url: str) -> dict[str, Any]:
    with httpx.Client(base_url=url) as client:
        started = client.post("/graphql/", json={"query": LEND}).json()
        task_id = started["data"]["lend"]["taskId"]
        deadline = time.monotonic() + 60
        while True:
            found: dict[str, Any] = client.get(f"/api/v1/tasks/{task_id}/").json()
            if found["status"] in ("completed", "failed"):
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.02)


def test_a_live_server_runs_tasks(live_server: Any) -> None:
    assert ends(live_server.url)["result"]["title"] == "Emma"
    assert process.current() is not None


def test_the_tools_end_the_runtime_of_an_earlier_test(
    rail_tasks: RailTasks,
    transactional_db: None,  # or pytest-django would run it first
) -> None:
    assert threads_of_runtimes() == []
    lend.enqueue(title="Emma")
    assert not Group.objects.exists()


def test_a_runtime_can_be_ended(live_server: Any) -> None:
    assert ends(live_server.url)["status"] == "completed"
    stop_runtime()
    assert process.hosted() is None


@pytest.mark.django_db(transaction=True)
def test_the_last_test_leaves_a_runtime() -> None:
    assert lend.enqueue(title="Emma").result(60)["title"] == "Emma"
    assert process.current() is not None
