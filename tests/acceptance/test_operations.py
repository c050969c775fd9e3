"""A server's reports on itself: health, metrics, log lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth.models import User

from tests.support.client import Client
from tests.support.places import Place, mostly_on_postgres
from tests.support.server import Server, running_server
from tests.support.waiting import eventually

pytestmark = mostly_on_postgres


@pytest.fixture(scope="module")
def server(place: Place, server_loop: str) -> Iterator[Server]:
    """A server that counts; ada is staff there."""
    User.objects.filter(username="ada").update(is_staff=True)
    settings = {"metrics_enabled": True, "slow_task_threshold_seconds": 0.05}
    with running_server(place.env, loop=server_loop, drain_seconds=1, **settings) as it:
        yield it


def at(client: Client, path: str) -> str:
    return client.server.url.replace("/graphql/", path)


async def test_probes_are_answered(person: Callable[[str], Client]) -> None:
    """Without a credential; the runtime is there from the server's start on."""
    anonymous = person("")
    live = await anonymous.http.get(at(anonymous, "/tasks/health/live"))
    assert (live.status_code, live.json()) == (200, {"status": "ok"})
    ready = await anonymous.http.get(at(anonymous, "/tasks/health/ready"))
    assert (ready.status_code, ready.json()["status"]) == (200, "ok")
    assert set(ready.json()["checks"].values()) == {"ok"}
    head = await anonymous.http.head(at(anonymous, "/tasks/health/ready"))
    assert (head.status_code, head.content) == (200, b"")


async def test_what_the_server_runs_is_counted(
    ada: Client, bob: Client, person: Callable[[str], Client]
) -> None:
    """For staff; others are 403, anonymous clients 401. A slow task is logged."""
    task_id = await bob.start("climb(steps: 1, pause: 0.2)")
    assert (await bob.final(task_id))["status"] == "completed"

    async def is_logged_and_counted() -> bool:
        """Readers see a task's end before the process has counted it."""
        text = (await ada.http.get(at(ada, "/tasks/metrics"))).text
        return "rail_tasks_duration_seconds_count{" in text and task_id in ada.server.said()

    await eventually(is_logged_and_counted)
    page = await ada.http.get(at(ada, "/tasks/metrics"))
    assert page.status_code == 200
    labels = 'queue="default",task="acceptance.climb"'
    for line in (
        f"rail_tasks_enqueued_total{{{labels}}}",
        f"rail_tasks_started_total{{{labels}}}",
        f"rail_tasks_slow_total{{{labels}}}",
        f"rail_tasks_duration_seconds_count{{{labels}}}",
    ):
        assert f"{line} 1.0" in page.text
    assert 'status="completed"' in page.text
    assert f"Task acceptance.climb ({task_id}) is slow" in ada.server.said()
    assert (await bob.http.get(at(bob, "/tasks/metrics"))).status_code == 403
    anonymous = person("")
    assert (await anonymous.http.get(at(anonymous, "/tasks/metrics"))).status_code == 401
