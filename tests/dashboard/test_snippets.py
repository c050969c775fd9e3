"""What a task's page offers to copy: each text is run, and does what it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html import unescape
from typing import Any
from uuid import UUID

import jwt
import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from strawberry import Some

from rail_async_tasks.dashboard.literals import Imports, NotWritable, literal
from rail_async_tasks.models import TaskExecution
from tests.dashboard.task_browser import serving
from tests.dashboard.test_task_page import page, store
from tests.projects.forms.tasks import Line, Paper
from tests.support.databases import Database
from tests.support.tokens import SECRET

STORED: dict[str, Any] = {
    "title": "O'Neill \"x\"\n", "copies": 2, "ratio": 1.5, "price": "19.99",
    "key": "123e4567-e89b-12d3-a456-426614174000", "at": "2026-01-16T12:00:00+00:00",
    "day": "2026-01-16", "pause": "PT90S", "paper": "LETTER", "mode": 3, "draft": False,
    "lines": [{"sku": "x", "count": 2}], "extra": {"a": [1, None]}, "note": None,
}  # fmt: skip


def copied(client: Client, row: TaskExecution, key: str) -> str:
    """Returns the text of one box, as a browser copies it."""
    html = page(client, row)
    found = re.search(rf'<pre id="{key}"[^>]*>(.*?)</pre>', html, re.DOTALL)
    assert found is not None, key
    return unescape(found[1])


@pytest.fixture
def root(db: None, client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root"))
    return client


def graphql(client: Client, text: str) -> Any:
    answer = client.post("/graphql/", {"query": text}, content_type="application/json").json()
    assert "errors" not in answer, answer
    return answer["data"]


def test_graphql_reads_and_retries(root: Client) -> None:
    """As pasted into the console."""
    row = store(name="form.maybe", arguments={}, result={"a": 1})
    found = graphql(root, copied(root, row, "read-graphql"))["task"]
    assert (found["id"], found["status"], found["result"]) == (str(row.id), "completed", {"a": 1})
    new = graphql(root, copied(root, row, "start-graphql"))["retryTask"]["taskId"]
    assert TaskExecution.objects.get(id=new).parent_id == row.id


def test_the_command_line_reads_and_retries(root: Client, settings: Any, capsys: Any) -> None:
    """As pasted into a shell beside manage.py."""
    row = store(name="form.maybe", arguments={})
    assert copied(root, row, "read-cli").startswith("python manage.py tasks show")
    call_command(*shlex.split(copied(root, row, "read-cli"))[2:])
    assert str(row.id) in capsys.readouterr().out
    retry = shlex.split(copied(root, row, "start-cli"))
    assert retry == ["python", "manage.py", "tasks", "retry", str(row.id)]


def test_python_reads_and_starts(root: Client) -> None:
    """As pasted into Django's shell: the same arguments, of their real types, and options."""
    row = store(
        name="form.every_kind", arguments=STORED, owner_id="7", tenant_id="acme", priority=3
    )
    space: dict[str, Any] = {}
    read = copied(root, row, "read-python")
    exec(read.replace("TaskExecution.objects", "found = TaskExecution.objects"), space)
    assert space["found"].id == row.id
    exec(copied(root, row, "start-python"), {})
    new = TaskExecution.objects.exclude(id=row.id).get()
    assert new.arguments == {**STORED, "pause": new.arguments["pause"]}
    assert (new.owner_id, new.tenant_id, new.priority, new.queue) == ("7", "acme", 3, "default")
    assert (new.status, new.parent_id) == ("completed", None)


def test_python_leaves_sensitive_arguments_to_fill_in(root: Client) -> None:
    """As pasted it is refused, and names the argument; it never has the value."""
    row = store(arguments={"amount": 5, "card": {"$sealed": "gAAAA"}})
    text = copied(root, row, "start-python")
    assert "card=..." in text
    assert "Fill in card" in page(root, row)
    with pytest.raises(Exception, match="card"):
        exec(text, {})
    assert TaskExecution.objects.count() == 1


def test_an_unfinished_task_has_nothing_that_retries_it(root: Client) -> None:
    """It would be refused. Python starts another one."""
    html = page(root, store("running", name="form.maybe", arguments={}))
    assert 'id="start-cli"' not in html
    assert 'id="start-python"' in html


def test_a_task_without_code_has_no_python(root: Client) -> None:
    """No import would find it."""
    html = page(root, store(name="form.gone", arguments={}))
    assert 'id="start-python"' not in html
    assert 'id="read-python"' in html


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_curl_reads_and_retries(database: Database) -> None:
    """As pasted into a shell that has the token."""
    user = User.objects.create_superuser("root")
    with serving(database.env, jwt={"key": SECRET, "algorithms": ["HS256"]}) as server:
        client = Client(headers={"host": f"127.0.0.1:{server.port}"})
        client.force_login(user)
        row = store(name="form.maybe", arguments={})
        claims = {"sub": str(user.pk), "exp": datetime.now(UTC) + timedelta(minutes=5)}
        token = jwt.encode(claims, SECRET, "HS256")

        def run(key: str) -> Any:
            text = copied(client, row, key)
            env = {**os.environ, "TOKEN": token}
            done = subprocess.run(
                ["bash", "-c", text], env=env, capture_output=True, text=True, check=True
            )
            return json.loads(done.stdout)

        assert run("read-curl")["id"] == str(row.id)
        assert run("start-curl")["parent_id"] == str(row.id)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 1, 1.5, "a'b\"\n", [1, [2]], (1, (2,)), (), {"a": {"b": 1}},
        Decimal("1.10"), UUID(int=7), datetime(2026, 1, 2, 3, tzinfo=UTC), date(2026, 1, 2),
        timedelta(days=-1, seconds=3), Paper.A4, Line(sku="x"), Some(None), Some([Paper.LETTER]),
    ],
    ids=repr,
)  # fmt: skip
def test_a_literal_makes_the_value_again(value: Any) -> None:
    """With the imports that it asks for."""
    imports = Imports()
    text = literal(value, imports)
    space: dict[str, Any] = {}
    exec("\n".join(imports.lines), space)
    made = eval(text, space)
    if isinstance(value, Some):
        assert isinstance(made, Some)
        made, value = made.value, value.value
    assert made == value
    assert type(made) is type(value)


def test_a_value_of_a_local_class_has_no_literal() -> None:
    """No import finds it."""

    class Local(Decimal):
        pass

    with pytest.raises(NotWritable):
        literal(Local("1"), Imports())
