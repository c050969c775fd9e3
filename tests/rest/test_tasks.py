"""Reading, listing, cancelling and retrying tasks over REST."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User

from rail_async_tasks.graphql.types import TaskExecution as GraphQLTask
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.rest.render import FIELDS
from tests.rest import shelf
from tests.rest.conftest import (
    MISSING,
    ROOT,
    Configure,
    Rest,
    code_of,
    end_of,
    finished,
    logged_in,
    start,
    waiting,
)

pytestmark = pytest.mark.turns("database")
ONE_DATABASE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


async def test_a_task_as_json(ada: Rest) -> None:
    """All that GraphQL shows, in snake case."""
    task_id = await finished(shelf.echo, ada, value="é\n</script>", number=2**63)
    response = await ada.get(f"{task_id}/")
    assert response.status_code == 200
    task = response.json()
    assert ada.user is not None
    assert {name: task[name] for name in FIELDS if not name.endswith("_at")} == {
        "id": task_id, "name": "rest.echo", "status": "completed", "progress": 100,
        "progress_message": None, "result": {"value": "é\n</script>", "number": 2**63},
        "error": None, "error_code": None, "error_type": None, "queue": "default", "priority": 0,
        "cancel_requested": False, "attempts": 1, "retry_count": 0, "max_retries": 0,
        "owner_id": str(ada.user.pk), "parent_id": None, "seq": task["seq"], "step": task["step"],
        "run_after": None, "traceback": None,
    }  # fmt: skip
    assert task["created_at"] <= task["started_at"] <= task["completed_at"] < task["expires_at"]
    assert response.headers["Content-Type"] == "application/json"
    assert "no-store" in response.headers["Cache-Control"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_the_fields_are_those_of_graphql() -> None:
    """One set of fields at every edge; nothing else of a row is shown."""
    fields = [field.name for field in GraphQLTask.__strawberry_definition__.fields]  # type: ignore[attr-defined]
    fields.remove("tracebacks")  # private
    assert list(FIELDS) == fields


@ONE_DATABASE
async def test_a_task_that_runs_and_one_that_failed(ada: Rest) -> None:
    """The newest progress; the error's text and code."""
    task = (await ada.get(f"{await waiting(ada)}/")).json()
    assert (task["status"], task["progress"], task["progress_message"], task["result"]) == (
        "running", 10, "waiting", None,
    )  # fmt: skip
    task = (await ada.get(f"{await finished(shelf.fall, ada)}/")).json()
    assert (task["status"], task["error"], task["error_code"]) == (
        "failed", "the data makes no sense", "exception",
    )  # fmt: skip


@ONE_DATABASE
async def test_every_url_works_with_and_without_its_last_slash(ada: Rest) -> None:
    """A redirect would turn a POST into a GET."""
    task_id = await finished(shelf.echo, ada)
    for path in (f"{task_id}", f"{task_id}/"):
        assert (await ada.get(path)).json()["id"] == task_id
        assert (await ada.post(f"{task_id}/retry{path[len(task_id) :]}")).status_code == 201
        assert code_of(await ada.post(f"{task_id}/cancel{path[len(task_id) :]}")) == "ALREADY_FINAL"
    response = await ada.client.get(ROOT.rstrip("/"))
    assert response.status_code == 200


@ONE_DATABASE
async def test_head_is_get_without_a_body(ada: Rest) -> None:
    """Same status and length; of the events too, without a stream."""
    task_id = await waiting(ada)
    for path in ("", f"{task_id}/", f"{task_id}/events/"):
        response = await ada.send("HEAD", path)
        assert (response.status_code, response.content) == (200, b"")
    assert (await ada.send("HEAD", f"{MISSING}/events/")).status_code == 404


async def test_pages_have_no_gap_and_no_double_while_tasks_arrive(ada: Rest) -> None:
    """25 tasks by 10, newest first; what is started meanwhile is newer than the first page."""
    ids = [await start(shelf.echo, ada, number=number) for number in range(25)]
    pages, after = [], ""
    while True:
        body = (await ada.get(f"?limit=10&after={after}")).json()
        pages.append([task["id"] for task in body["results"]])
        await start(shelf.echo, ada)
        if body["next"] is None:
            break
        after = body["next"]
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [task_id for page in pages for task_id in page] == ids[::-1]


@ONE_DATABASE
async def test_next_is_null_exactly_where_nothing_follows(ada: Rest) -> None:
    """Also where the last page is full."""
    ids = [await start(shelf.echo, ada) for _ in range(4)]
    for limit, following in ((1, ids[3]), (3, ids[1]), (4, None), (5, None)):
        assert (await ada.get(f"?limit={limit}")).json()["next"] == following
    assert (await ada.get(f"?limit=2&after={ids[2]}")).json()["next"] is None
    assert (await ada.get(f"?after={ids[0]}")).json() == {"results": [], "next": None}


@ONE_DATABASE
async def test_the_largest_page(ada: Rest) -> None:
    """500 tasks; whether one more follows is known, although no read takes more."""
    await finished(shelf.echo, ada)
    row = await TaskExecution.objects.aget()
    ids = [f"01890a5d-ac96-774b-bcce-{number:012x}" for number in range(500)]
    copies = [TaskExecution(**{**_columns(row), "id": task_id}) for task_id in ids]
    await TaskExecution.objects.abulk_create(copies)
    body = (await ada.get("?limit=500")).json()
    assert (len(body["results"]), body["next"]) == (500, ids[1])
    await TaskExecution.objects.filter(id=ids[0]).adelete()
    body = (await ada.get("?limit=500")).json()
    assert (len(body["results"]), body["next"]) == (500, None)


def _columns(row: TaskExecution) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


@ONE_DATABASE
async def test_filters(ada: Rest) -> None:
    """By status, name and queue; an empty value is none."""
    done, failed = await finished(shelf.echo, ada), await finished(shelf.fall, ada)
    low = str((await shelf.echo.using(owner=ada.user, queue="low").aenqueue()).id)
    await end_of(low)
    assert await ada.ids("?status=failed") == [failed]
    assert await ada.ids("?name=rest.echo") == [low, done]
    assert await ada.ids("?queue=low") == [low]
    assert await ada.ids("?status=completed&name=rest.echo&queue=default") == [done]
    assert await ada.ids("?name=nothing") == []
    assert await ada.ids("?status=&name=&queue=&limit=&after=") == [low, failed, done]


async def test_everybody_sees_what_is_theirs(ada: Rest, bob: Rest, anonymous: Rest) -> None:
    """Owners their own; superusers and staff with the right all; who has the right changes them."""
    staff = await logged_in("staff", is_staff=True)
    viewer = await logged_in("viewer", is_staff=True)
    changer = await logged_in("changer", is_staff=True)
    root = await logged_in("root", is_superuser=True)
    for rest, names in ((viewer, ["view"]), (changer, ["view", "change"])):
        assert rest.user is not None
        for name in names:
            right = await Permission.objects.aget(codename=f"{name}_taskexecution")
            await rest.user.user_permissions.aadd(right)
    mine, theirs = await finished(shelf.echo, ada), await finished(shelf.echo, bob)
    ownerless = await finished(shelf.echo)
    for rest, listed in (
        (ada, [mine]),
        (bob, [theirs]),
        (anonymous, []),
        (staff, []),
        (viewer, [ownerless, theirs, mine]),
        (changer, [ownerless, theirs, mine]),
        (root, [ownerless, theirs, mine]),
    ):
        assert await rest.ids() == listed
        assert (await rest.get(f"{ownerless}/")).status_code == 200
        sees = mine in listed
        assert (await rest.get(f"{mine}/")).status_code == (200 if sees else 404)
        assert (await rest.get(f"{mine}/events/")).status_code == (200 if sees else 404)
        changes = rest in (ada, changer, root)
        expected = "ALREADY_FINAL" if changes else "NOT_FOUND"
        assert code_of(await rest.post(f"{mine}/cancel/")) == expected
    assert (await changer.post(f"{mine}/retry/")).json()["owner_id"] == str(ada.user.pk)  # type: ignore[union-attr]
    assert code_of(await viewer.post(f"{mine}/retry/")) == "NOT_FOUND"


def tenant_in_header(request: Any) -> str | None:
    """A project's tenant resolver."""
    found: str | None = request.headers.get("x-tenant")
    return found


@ONE_DATABASE
async def test_a_task_is_its_owners_within_its_tenant(ada: Rest, configure: Configure) -> None:
    """The same person in another tenant does not see it."""
    configure(tenant_resolver=f"{__name__}.tenant_in_header")
    handle = await shelf.echo.using(owner=ada.user, tenant_id="red").aenqueue()
    await end_of(str(handle.id))
    for headers, sees in (({"x-tenant": "red"}, True), ({"x-tenant": "blue"}, False), ({}, False)):
        listed = (await ada.get("", headers=headers)).json()["results"]
        assert len(listed) == sees
        response = await ada.get(f"{handle.id}/", headers=headers)
        assert response.status_code == (200 if sees else 404)


NO_IDS = [
    "no-id", "1", "null", "%00", "%F0%9F%90%8D", "%FF%FE", "..", "a%2Fb", "a%0Ab", "a/b/c",
    MISSING.replace("-", ""), "{" + MISSING + "}", f"urn:uuid:{MISSING}", f"%20{MISSING}", "%C2%B9",
    "x" * 3000,
]  # fmt: skip


async def test_404s_are_byte_identical(ada: Rest, bob: Rest, anonymous: Rest) -> None:
    """Foreign, missing, expired, malformed ids read the same in every request."""
    foreign, expired = await finished(shelf.echo, bob), await finished(shelf.echo, ada)
    await TaskExecution.objects.filter(id=expired).aupdate(expires_at="2020-01-01T00:00:00Z")
    for who in (ada, anonymous):
        answers = set()
        for task_id in [foreign, MISSING, expired, *NO_IDS]:
            for method, tail in (("GET", ""), ("GET", "events/"), ("POST", "cancel/"),
                                 ("POST", "retry/")):  # fmt: skip
                response = await who.send(method, f"{task_id}/{tail}")
                headers = {k: v for k, v in response.headers.items() if k != "Vary"}
                answers.add((response.status_code, response.content, str(sorted(headers.items()))))
        assert len(answers) == 1, answers
        status, content, _ = answers.pop()
        assert (status, content) == (
            404, b'{"error":{"code":"NOT_FOUND","message":"Task not found."}}',
        )  # fmt: skip


async def test_cancelling(ada: Rest, bob: Rest) -> None:
    """The task as it stands then; a second time is too late."""
    task_id = await waiting(ada)
    assert (await bob.post(f"{task_id}/cancel/")).status_code == 404
    response = await ada.post(f"{task_id}/cancel/")
    assert response.status_code == 200
    assert (response.json()["status"], response.json()["cancel_requested"]) == ("running", True)
    await end_of(task_id)
    assert (await ada.get(f"{task_id}/")).json()["status"] == "cancelled"
    response = await ada.post(f"{task_id}/cancel/")
    assert (response.status_code, code_of(response)) == (409, "ALREADY_FINAL")
    delayed = await shelf.echo.using(owner=ada.user, delay=100).aenqueue()
    response = await ada.post(f"{delayed.id}/cancel/")
    assert response.json()["status"] == "cancelled"


async def test_retrying(ada: Rest, bob: Rest) -> None:
    """A new task whose parent it is, and where to find it; not before the first has ended."""
    task_id = await finished(shelf.echo, ada, value="again")
    assert (await bob.post(f"{task_id}/retry/")).status_code == 404
    response = await ada.post(f"{task_id}/retry/")
    assert response.status_code == 201
    again = response.json()
    assert (again["parent_id"], again["owner_id"]) == (task_id, str(ada.user.pk))  # type: ignore[union-attr]
    assert response.headers["Location"] == f"{ROOT}{again['id']}/"
    await end_of(again["id"])
    found = (await ada.client.get(response.headers["Location"])).json()
    assert found["result"] == {"value": "again", "number": 0}
    response = await ada.post(f"{await waiting(ada)}/retry/")
    assert (response.status_code, code_of(response)) == (409, "NOT_FINAL")


@ONE_DATABASE
async def test_who_knows_an_ownerless_tasks_id_may_change_it(anonymous: Rest) -> None:
    """As `anonymous_access` "by_id" says."""
    task_id = await waiting()
    assert (await anonymous.post(f"{task_id}/cancel/")).status_code == 200
    await end_of(task_id)
    assert (await anonymous.post(f"{task_id}/retry/")).status_code == 201


@ONE_DATABASE
async def test_a_retry_asks_the_permission_classes(ada: Rest) -> None:
    """A user who may not start the task may not retry it either, owner or not."""
    task_id = await finished(shelf.restock, ada, amount=5)
    response = await ada.post(f"{task_id}/retry/")
    assert response.status_code == 403
    assert response.json() == {"error": {"code": "FORBIDDEN", "message": "Staff only."}}
    assert await TaskExecution.objects.acount() == 1
    await User.objects.filter(username="ada").aupdate(is_staff=True)
    assert (await ada.post(f"{task_id}/retry/")).status_code == 201


@ONE_DATABASE
async def test_a_permission_class_that_asks_for_more_refuses(ada: Rest) -> None:
    """There is no GraphQL operation to look at: nothing is started, and the log says why."""
    task_id = await finished(shelf.curious, ada)
    response = await ada.post(f"{task_id}/retry/")
    assert (response.status_code, code_of(response)) == (500, "INTERNAL_ERROR")
    assert await TaskExecution.objects.acount() == 1


def test_the_urls_of_a_project_stay_reversible() -> None:
    """One pattern that Django cannot reverse breaks every `reverse()`, the admin's included."""
    from django.test import override_settings
    from django.urls import reverse

    with override_settings(ROOT_URLCONF="tests.rest.root_urls"):
        assert reverse("admin:index") == "/admin/"
        assert reverse("other") == "/other/"
