"""Attack: read what an exception quotes, by the error of a task. The setting `public_errors`."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from django.contrib.auth.models import Permission

from rail_async_tasks import Fail, QueueFull, TaskFailed, task
from rail_async_tasks.public_errors import error_type
from tests.rest.conftest import Configure, Rest, end_of, finished, logged_in
from tests.rest.opened import texts as decoded
from tests.support.sockets import Socket

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

CANARY = "canary-51cd: the password is hunter2"
QUERY = "query($id: ID!) { task(id: $id) { error } tasks { id error } }"
FOLLOW = "subscription($id: ID!) { taskProgress(taskId: $id) { status error } }"


class Declined(Fail):
    """A project's own kind of `Fail`."""


class Impostor(Exception):
    """An accident whose class has the name of a declared one."""


Impostor.__name__ = "Fail"


@task(name="public.accident", max_retries=0)
async def accident() -> None:
    raise ValueError(CANARY)


@task(name="public.impostor", max_retries=0)
async def impostor() -> None:
    raise Impostor(CANARY)


@task(name="public.child", max_retries=0)
async def child() -> None:
    raise TaskFailed(CANARY)  # what the `result()` of another task raises


@task(name="public.unread", max_retries=0)
async def unread() -> object:
    class Secret:
        def __iter__(self) -> Any:
            raise ValueError(CANARY)

    return Secret()


@task(name="public.declared", max_retries=0)
async def declared() -> None:
    raise Fail("The card was declined.")


@task(name="public.declined", max_retries=0)
async def declined() -> None:
    raise Declined("The card was declined.")


@task(name="public.refused", max_retries=0)
async def refused() -> None:
    raise QueueFull("The card was declined.")


ACCIDENTS = [accident, impostor, child]
DECLARED = [declared, declined, refused]


async def texts(rest: Rest, task_id: str, *, listed: bool) -> set[str]:
    """The error as every edge shows it to this caller."""
    found = {(await rest.get(f"{task_id}/")).json()["error"]}
    body = {"query": QUERY, "variables": {"id": task_id}}
    send = rest.client.post
    answer = (await send("/graphql/", data=body, content_type="application/json")).json()["data"]
    found.add(answer["task"]["error"])
    if listed:
        (found_here,) = [it["error"] for it in answer["tasks"] if it["id"] == task_id]
        found.add(found_here)
        rows = (await rest.get()).json()["results"]
        found.add(next(it["error"] for it in rows if it["id"] == task_id))
    response = await rest.get(f"{task_id}/events/")
    (chunk,) = [text async for text in decoded(response.streaming_content)]
    found.add(json.loads(chunk.partition("data: ")[2])["error"])
    body = {"query": FOLLOW, "variables": {"id": task_id}}
    response = await send(
        "/graphql/", data=json.dumps(body), content_type="application/json",
        headers={"accept": "text/event-stream"},
    )  # fmt: skip
    first = "".join([text async for text in decoded(response.streaming_content)])
    data = json.loads(first.partition("data: ")[2].partition("\n")[0])
    found.add(data["data"]["taskProgress"]["error"])
    cookies = rest.client.cookies
    cookie = f"sessionid={cookies['sessionid'].value}" if cookies else ""
    socket = Socket(cookie=cookie)
    await socket.ready()
    await socket.subscribe(FOLLOW, id=task_id)
    found.add((await socket.receive())["payload"]["data"]["taskProgress"]["error"])
    await socket.leave()
    return found


async def operator() -> Rest:
    rest = await logged_in("operator", is_staff=True)
    assert rest.user is not None
    right = await Permission.objects.aget(codename="view_taskexecution")
    await rest.user.user_permissions.aadd(right)
    return rest


def reference(task_id: str) -> str:
    return f"Internal error (reference {task_id})."


@pytest.mark.parametrize("which", ACCIDENTS, ids=lambda it: str(it.name))
async def test_an_accident(
    ada: Rest, configure: Configure, caplog: pytest.LogCaptureFixture, which: Any
) -> None:
    """By default owner and staff read it, strangers a reference; "declared": staff alone."""
    staff = await operator()
    with caplog.at_level(logging.WARNING):
        owned, ownerless = await finished(which, ada), await finished(which)
    assert await texts(ada, owned, listed=True) == {CANARY}
    assert await texts(staff, owned, listed=True) == {CANARY}
    assert await texts(Rest(), ownerless, listed=False) == {reference(ownerless)}
    configure(public_errors="declared")
    assert await texts(ada, owned, listed=True) == {reference(owned)}
    assert await texts(Rest(), ownerless, listed=False) == {reference(ownerless)}
    assert await texts(staff, owned, listed=True) == {CANARY}
    for task_id in (owned, ownerless):  # the log has the reference, and what it stands for
        (record,) = [it for it in caplog.records if task_id in it.getMessage()]
        assert record.exc_info is not None
        assert CANARY in str(record.exc_info[1])


@pytest.mark.parametrize("which", DECLARED, ids=lambda it: str(it.name))
async def test_a_declared_text_is_for_everyone(ada: Rest, configure: Configure, which: Any) -> None:
    """Who wrote it wrote it for them."""
    configure(public_errors="declared")
    owned, ownerless = await finished(which, ada), await finished(which)
    assert await texts(ada, owned, listed=True) == {"The card was declined."}
    assert await texts(Rest(), ownerless, listed=False) == {"The card was declined."}


async def test_the_runtimes_own_texts_are_for_everyone(ada: Rest, configure: Configure) -> None:
    """A timeout holds nothing of the body's."""
    configure(public_errors="declared", timeout=0.01)
    import asyncio

    @task(name="public.slow", max_retries=0)
    async def slow() -> None:
        await asyncio.Event().wait()

    handle = await slow.using(owner=ada.user).aenqueue()
    await end_of(str(handle.id))
    assert "timeout of 0.01 s" in (await ada.get(f"{handle.id}/")).json()["error"]


async def test_a_result_that_cannot_be_read_is_an_accident(ada: Rest, configure: Configure) -> None:
    """Its text quotes the result's own code."""
    configure(public_errors="declared")
    task_id = await finished(unread, ada)
    error = (await ada.get(f"{task_id}/")).json()["error"]
    assert CANARY not in error


def test_an_impostor_is_stored_with_its_module(database: object) -> None:
    """So that its name does not read as that of a declared class."""
    assert error_type(Impostor()).endswith(".Impostor")
    assert [error_type(it) for it in (Fail(), Declined(), KeyError())] == [
        "Fail", "Declined", "KeyError",
    ]  # fmt: skip
