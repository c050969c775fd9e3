"""Tracebacks of failed tasks: a field for staff with the right, null for everyone else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission

from tests.rest import shelf
from tests.rest.conftest import Rest, finished, logged_in

ONE_DATABASE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
QUERY = "query($id: ID!) { task(id: $id) { errorType traceback } tasks { id traceback } }"
FOLLOW = "subscription($id: ID!) { taskProgress(taskId: $id) { status traceback } }"


async def with_rights() -> list[Rest]:
    """A superuser, and staff with the right to view tasks."""
    root = await logged_in("root", is_superuser=True)
    viewer = await logged_in("viewer", is_staff=True)
    assert viewer.user is not None
    right = await Permission.objects.aget(codename="view_taskexecution")
    await viewer.user.user_permissions.aadd(right)
    return [root, viewer]


def is_traceback(text: str | None) -> bool:
    return text is not None and "in fall\n" in text and text.endswith("makes no sense\n")


async def ask(rest: Rest, query: str, task_id: str, accept: str = "application/json") -> Any:
    body = json.dumps({"query": query, "variables": {"id": task_id}})
    return await rest.client.post(
        "/graphql/", data=body, content_type="application/json", headers={"accept": accept}
    )


async def test_who_reads_a_traceback(ada: Rest) -> None:
    """By REST and GraphQL, alone and in a list; the owner reads the error only."""
    task_id = await finished(shelf.fall, ada)
    fine = await finished(shelf.echo, ada)
    staff = await logged_in("staff", is_staff=True)
    for rest in (*await with_rights(), ada):
        may = rest is not ada
        one = (await rest.get(f"{task_id}/")).json()
        assert (one["error_type"], is_traceback(one["traceback"])) == ("ValueError", may)
        assert one["traceback"] is None or may
        listed = {it["id"]: it["traceback"] for it in (await rest.get()).json()["results"]}
        assert is_traceback(listed[task_id]) is may
        assert listed[fine] is None
        data = (await ask(rest, QUERY, task_id)).json()["data"]
        assert data["task"]["errorType"] == "ValueError"
        assert is_traceback(data["task"]["traceback"]) is may
        assert {it["id"]: is_traceback(it["traceback"]) for it in data["tasks"]} == {
            task_id: may, fine: False,
        }  # fmt: skip
    assert (await staff.get(f"{task_id}/")).status_code == 404


@ONE_DATABASE
async def test_streams_have_it_too(ada: Rest) -> None:
    """Events of REST, and of a subscription."""
    task_id = await finished(shelf.fall, ada)
    for rest in (*await with_rights(), ada):
        may = rest is not ada
        response = await rest.get(f"{task_id}/events/")
        text = b"".join([chunk async for chunk in response.streaming_content]).decode()
        (data,) = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
        assert is_traceback(json.loads(data)["traceback"]) is may
        response = await ask(rest, FOLLOW, task_id, "text/event-stream")
        text = b"".join([chunk async for chunk in response.streaming_content]).decode()
        lines = [line[6:] for line in text.splitlines() if line.startswith("data: {")]
        task = json.loads(lines[0])["data"]["taskProgress"]
        assert (task["status"], is_traceback(task["traceback"])) == ("failed", may)


@ONE_DATABASE
async def test_a_list_is_read_with_one_query_more(
    ada: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with none for those who may not read tracebacks."""
    from rail_async_tasks.hosting import process as host

    for _ in range(3):
        await finished(shelf.fall, ada)
    ledger, asked = host.ledger(), []
    read = ledger.tracebacks

    def counted(ids: Any) -> Any:
        asked.append(len(ids))
        return read(ids)

    monkeypatch.setattr(ledger, "tracebacks", counted)
    (root, _) = await with_rights()
    task_id = (await ada.ids())[0]
    for rest, expected in ((ada, []), (root, [3])):
        await ask(rest, "{ tasks { id traceback } }", task_id)
        assert asked == expected
