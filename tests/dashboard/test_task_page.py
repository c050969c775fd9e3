"""The page of one task, and what its form starts."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import Permission, User
from django.test import Client

from rail_async_tasks.ids import new_id
from rail_async_tasks.models import TaskEvent, TaskExecution, TaskRuntime
from rail_async_tasks.runtime.unique import unique_key
from rail_async_tasks.states import FINAL
from tests.projects.forms import tasks as argument_tasks

pytestmark = pytest.mark.django_db

NAME = argument_tasks.every_kind.name


def store(status: str = "completed", **fields: Any) -> TaskExecution:
    """Stores a task in a state."""
    at = datetime.now(UTC) - timedelta(seconds=60)
    ran = status != "pending"
    defaults: dict[str, Any] = {
        "name": "form.secret", "queue": "default", "created_at": at, "updated_at": at,
        "attempts": int(ran), "started_at": at + timedelta(seconds=1) if ran else None,
        "completed_at": at + timedelta(seconds=4) if status in FINAL else None,
        "runtime_id": new_id() if status == "running" else None,
        "token": new_id() if status == "running" else None,
        "seq": 3 if status in FINAL else 2 if ran else 1, "arguments": {"amount": 5},
    }  # fmt: skip
    return TaskExecution.objects.create(status=status, **{**defaults, **fields})


@pytest.fixture
def root(client: Client) -> Client:
    """A browser of a superuser."""
    client.force_login(User.objects.create_superuser("root"))
    return client


def page(client: Client, row: TaskExecution) -> str:
    """Returns the page of a task."""
    answer = client.get(f"/tasks/{row.id}/")
    assert answer.status_code == 200, answer.content.decode()
    return answer.content.decode()


def test_a_finished_task_shows_all_there_is(root: Client) -> None:
    """Result, arguments, times, owner and process; retries in both directions."""
    parent = store("failed")
    runtime = TaskRuntime.objects.create(
        id=new_id(), place="web-1 4711", started_at=parent.created_at,
        renewed_at=parent.created_at, lapses_at=parent.created_at,
    )  # fmt: skip
    row = store(
        result={"file": "https://example.com/a.png"}, parent_id=parent.id, owner_id="1",
        tenant_id="acme", runtime_id=runtime.id, priority=7, progress=100, progress_message="Done",
    )  # fmt: skip
    child = store("running", parent_id=row.id)
    html = page(root, row)
    for text in (
        "<h1>form.secret</h1>", 'data-status="completed"', 'aria-valuenow="100"', "Done",
        'href="https://example.com/a.png"', "acme", "web-1 4711", str(parent.id), str(child.id),
        "Attempt 1", "3.0 s",
    ):  # fmt: skip
        assert text in html
    assert "audit_enabled" not in html


def test_a_failed_task_shows_its_error(root: Client) -> None:
    """Class, code, text and traceback."""
    row = store(
        "failed", error="'isbn'", error_type="KeyError", error_code="exception",
        traceback='  File "x.py", line 7\nKeyError: \'isbn\'', attempts=4, retry_count=3,
    )  # fmt: skip
    html = page(root, row)
    for text in ("KeyError", "exception", "&#x27;isbn&#x27;", "line 7", "3 earlier attempts"):
        assert text in html
    assert "audit_enabled" in html


def test_sensitive_arguments_are_redacted(root: Client) -> None:
    """On the page and in what it offers to copy, stored encrypted or plain."""
    row = store(arguments={"amount": 5, "card": {"$sealed": "gAAAA-token"}})
    html = page(root, row)
    assert "[redacted]" in html
    assert "gAAAA-token" not in html
    assert "hunter2" not in page(root, store(arguments={"amount": 5, "card": "hunter2"}))


@pytest.mark.parametrize(
    ("address", "hit"),
    [
        ("/tasks/?q={}", "/tasks/{}/"),
        ("/tasks/live?q={}&newest={}", "1 new task"),
        ("/tasks/bulk/retry/?q=state:completed {}", "1 task"),
    ],
    ids=["list", "newer", "bulk"],
)
@pytest.mark.parametrize(
    ("name", "card", "words"),
    [
        ("form.secret", "hunter2", ["h", "hun", "hunter2"]),
        ("unknown", {"$sealed": "gAAAAtoken"}, ["$sealed", "gAAAAt"]),
    ],
    ids=["plain", "encrypted"],
)
def test_no_search_compares_sensitive_arguments(
    root: Client, address: str, hit: str, name: str, card: Any, words: list[str]
) -> None:
    """It would tell of them letter by letter, by a row, a count or a notice of newer tasks."""
    old = store(name="zzz")

    def finds(row: TaskExecution, word: str) -> bool:
        return hit.format(row.id) in root.get(address.format(word, old.id)).content.decode()

    hidden = store(name=name, arguments={"amount": 5, "card": card}, queue="q")
    assert not [word for word in words if finds(hidden, word)]
    shown = store(name="zzz", arguments={"amount": 5, "note": words[-1]})
    assert finds(shown, words[-1])


def test_the_audit_is_the_history(root: Client) -> None:
    """Each change, with who caused it."""
    row = store("cancelled", seq=2, attempts=0, started_at=None)
    for seq, before, after, reason in (
        (1, None, "pending", "created"),
        (2, "pending", "cancelled", "cancelled"),
    ):
        TaskEvent.objects.create(
            execution_id=row.id, name=row.name, seq=seq, from_status=before, to_status=after,
            attempt=0, at=row.created_at, actor="ann-7", reason=reason,
        )  # fmt: skip
    html = page(root, row)
    assert html.count("<td>ann-7</td>") == 2


@pytest.mark.parametrize("what", ["missing", "expired", "malformed", "odd"])
@pytest.mark.parametrize("path", ["", "arguments/"])
def test_there_is_a_page_for_an_id_without_a_task(root: Client, what: str, path: str) -> None:
    """The same one for a missing, an expired and a malformed id."""
    known = {"missing": str(new_id()), "malformed": "7", "odd": "%3Cscript%3E"}
    if what == "expired":
        known["expired"] = str(store(expires_at=datetime.now(UTC) - timedelta(seconds=1)).id)
    answer = root.get(f"/tasks/{known[what]}/{path}")
    assert answer.status_code == 404
    assert "There is no such task" in answer.content.decode()
    assert "<script>" not in answer.content.decode()


@pytest.mark.urls("tests.dashboard.part_urls")
def test_other_urls_below_tasks_stay_what_they_are(root: Client) -> None:
    """Metrics and probes are no ids, also where the project includes them later."""
    assert "There is no such task" not in root.get("/tasks/metrics/").content.decode()
    assert root.get("/tasks/health/live/").status_code == 200
    assert root.get(f"/tasks/{store().id}/").status_code == 200


HOSTILE = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>javascript:alert(3)"


def test_no_field_makes_markup(root: Client) -> None:
    """Every text of a task stays text."""
    hostile = {HOSTILE: [HOSTILE, {"x": HOSTILE}], "url": "javascript:alert(4)"}
    runtime = TaskRuntime.objects.create(
        id=new_id(), place=HOSTILE, started_at=datetime.now(UTC), renewed_at=datetime.now(UTC),
        lapses_at=datetime.now(UTC),
    )  # fmt: skip
    row = store(
        "failed", name="<b>x</b>", queue=HOSTILE[:100], arguments=hostile, progress_message=HOSTILE,
        error=HOSTILE, error_type=HOSTILE, error_code=HOSTILE[:32], traceback=HOSTILE,
        owner_id=HOSTILE, tenant_id=HOSTILE, runtime_id=runtime.id, dispatched_to=None,
    )  # fmt: skip
    TaskEvent.objects.create(
        execution_id=row.id, name=row.name, seq=1, from_status=None, to_status="pending",
        attempt=0, at=row.created_at, actor=HOSTILE, reason=HOSTILE[:32],
    )  # fmt: skip
    done = store(result=hostile, name="form.secret", arguments={"amount": HOSTILE, HOSTILE: 1})
    for html in (
        page(root, row),
        page(root, done),
        root.get(f"/tasks/{done.id}/arguments/").content.decode(),
    ):
        assert "<img src=x" not in html
        assert "<script>alert" not in html
        assert "<b>x" not in html
        assert not re.search(r'(href|src|action)="\s*javascript', html, re.IGNORECASE)
        assert not re.search(r"<[^>]*\son[a-z]+=(?![^<]*&quot;)\"", html)
        assert " style=" not in html


# --- the form -------------------------------------------------------------------------------------


def send(client: Client, row: TaskExecution, **values: str) -> Any:
    """Posts the form with these texts, all other arguments left to their defaults."""
    data = {f"mode-{name}": "value" for name in values}
    data |= {f"value-{name}": text for name, text in values.items()}
    return client.post(f"/tasks/{row.id}/arguments/", data)


def test_a_form_starts_a_task_with_its_arguments(root: Client) -> None:
    """Of the same owner, queue and priority, with the parent and the operator in the audit."""
    row = store("failed", name="form.guarded", arguments={"number": 5}, owner_id="7", priority=4)
    User.objects.filter(username="root").update(username="ann")
    answer = send(root, row, number="6")
    new = TaskExecution.objects.exclude(id=row.id).get()
    assert answer.status_code == 302
    assert answer["Location"].startswith(f"/tasks/{new.id}/?")
    assert (new.arguments, new.parent_id, new.owner_id, new.priority) == (
        {"number": 6}, row.id, "7", 4,
    )  # fmt: skip
    created = TaskEvent.objects.get(execution_id=new.id, reason="created")
    assert created.actor == str(User.objects.get(username="ann").pk)
    row.refresh_from_db()
    assert row.arguments == {"number": 5}


@pytest.mark.parametrize(("name", "number"), [("root", "6"), ("ann", "-1")])
def test_what_a_declaration_asks_of_who_starts_it_holds(
    root: Client, name: str, number: str
) -> None:
    """Permission classes see the new arguments, as they do for a mutation."""
    User.objects.filter(username="root").update(username=name)
    row = store("failed", name="form.guarded", arguments={"number": 5})
    answer = send(root, row, number=number)
    assert answer.status_code == 403
    assert "Only Ann may" in answer.content.decode()
    assert TaskExecution.objects.count() == 1


def test_a_sensitive_argument_is_entered_again_and_encrypted(root: Client, settings: Any) -> None:
    """Without a key nothing is started, and the message says what is missing."""
    row = store(arguments={"amount": 5, "card": "hidden-now"})
    form = root.get(f"/tasks/{row.id}/arguments/").content.decode()
    assert "enter it again" in form
    assert "hidden-now" not in form
    answer = send(root, row, amount="6", card="4111-hidden")
    assert answer.status_code == 422
    assert "4111-hidden" not in answer.content.decode()
    settings.RAIL_DJANGO_GRAPHQL["task_settings"]["encryption_keys"] = [
        Fernet.generate_key().decode()
    ]
    settings.RAIL_DJANGO_GRAPHQL = {**settings.RAIL_DJANGO_GRAPHQL}
    assert send(root, row, amount="6", card="4111", hint="h").status_code == 302
    new = TaskExecution.objects.get(parent_id=row.id)
    assert (new.result, list(new.arguments["card"])) == (6, ["$sealed"])


def test_a_unique_task_that_waits_already_is_named(root: Client) -> None:
    """Nothing is started, and the page that opens is that of the one that waits."""
    row = store(name="form.unique", arguments={"number": 5})
    definition = argument_tasks.unique.definition
    key = unique_key(definition, definition.encode({"number": 6}), tenant_id=None, owner_id=None)
    waiting = store(
        "pending", name="form.unique", arguments={"number": 6}, unique_key=key,
        run_after=datetime.now(UTC) + timedelta(days=1),
    )  # fmt: skip
    answer = send(root, row, number="6")
    assert answer["Location"].startswith(f"/tasks/{waiting.id}/?")
    assert "Nothing was started" in root.get(answer["Location"]).content.decode()
    assert TaskExecution.objects.count() == 2


def test_an_unfinished_task_and_one_without_code_have_no_form(root: Client) -> None:
    """The page says why, and what to do."""
    for row, text in (
        (store("running"), "has not ended yet"),
        (store(name="form.gone"), "form.gone"),
    ):
        answer = root.get(f"/tasks/{row.id}/arguments/")
        assert answer.status_code == 409
        assert text in answer.content.decode()
        assert send(root, row).status_code == 409


# --- who may do what ------------------------------------------------------------------------------

PATHS = ("", "arguments/")
POSTS = ("cancel/", "retry/", "arguments/")


def visitor(client: Client, kind: str) -> Client:
    """Signs a user of this kind in."""
    if kind == "anonymous":
        return client
    flags = {"superuser": {"is_superuser": True, "is_staff": True}, "owner": {}}
    user = User.objects.create_user(kind, **flags.get(kind, {"is_staff": True}))
    codes = {"viewer": ["view"], "changer": ["view", "change"], "change only": ["change"]}
    for code in codes.get(kind, []):
        user.user_permissions.add(Permission.objects.get(codename=f"{code}_taskexecution"))
    client.force_login(user)
    return client


MATRIX = {
    # May open the page, may open the form, may act.
    "superuser": (200, 200, 302),
    "changer": (200, 200, 302),
    "viewer": (200, 403, 403),
    "change only": (403, 403, 403),
    "staff": (403, 403, 403),
    "owner": (403, 403, 403),
    "anonymous": (302, 302, 302),
}


@pytest.mark.parametrize("kind", MATRIX)
def test_who_may_do_what(client: Client, kind: str) -> None:
    """An owner who is no staff has no dashboard, not even for their own task."""
    who = visitor(client, kind)
    owner = User.objects.filter(username=kind).first()
    row = store("failed", owner_id=None if owner is None else str(owner.pk))
    see, form, act = MATRIX[kind]
    assert who.get(f"/tasks/{row.id}/").status_code == see
    assert who.get(f"/tasks/{row.id}/arguments/").status_code == form
    before = TaskExecution.objects.count()
    answer = who.post(f"/tasks/{row.id}/arguments/", {"mode-amount": "value"})
    refused = act == 403 or kind == "anonymous"
    assert answer.status_code == (act if refused else 422)  # the form, for it lacks a value
    if refused:
        assert TaskExecution.objects.count() == before
        waiting = store("pending")
        who.post(f"/tasks/{waiting.id}/cancel/")
        who.post(f"/tasks/{row.id}/retry/")
        assert TaskExecution.objects.get(id=waiting.id).status == "pending"
        assert TaskExecution.objects.count() == before + 1


def test_who_may_only_look_is_offered_no_action(client: Client) -> None:
    """The page says that it is read only."""
    html = page(visitor(client, "viewer"), store("failed"))
    assert "read only" in html
    assert "data-action=" not in html


@pytest.mark.parametrize("path", POSTS)
def test_each_action_needs_a_token(path: str) -> None:
    """A page of another site can post, and has none."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("root"))
    row = store("pending" if path == "cancel/" else "failed")
    answer = client.post(f"/tasks/{row.id}/{path}", {"mode-amount": "value", "value-amount": "6"})
    assert answer.status_code == 403
    assert "CSRF" in answer.content.decode()
    assert TaskExecution.objects.count() == 1
    assert TaskExecution.objects.get().status == row.status
