"""The matrix of docs/permissions.md, cell by cell, over GraphQL's HTTP, WebSocket, SSE and REST."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.contrib.auth.models import Permission, User
from django.db.models import Q
from django.test import Client as DjangoClient

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.options import LedgerOptions
from rail_async_tasks.ledger.orm.ledger import OrmLedger
from rail_async_tasks.ledger.records import NewExecution
from rail_async_tasks.models import TaskExecution
from tests.acceptance.edges import EDGES, Edge, Refused, Socket, Sse
from tests.acceptance.permissions import (
    OPERATIONS,
    PAGE,
    PRINCIPALS,
    may,
    rendered,
    targets,
)
from tests.support.places import Place
from tests.support.server import Server, running_server

pytestmark = pytest.mark.parametrize("place", ["sqlite"], indirect=True)

TENANT = "acme"
REFUSED = {"NOT_FOUND", "UNAUTHENTICATED"}
EVERY_TARGET = ("owned", "by_id", "deny")
# The edges of clients.
CLIENT_EDGES = EDGES[2:]


def rights(*names: str) -> list[Permission]:
    return list(Permission.objects.filter(codename__in=[f"{it}_taskexecution" for it in names]))


class Principals:
    """One caller of each kind: a session that was opened before anything was withdrawn."""

    def __init__(self) -> None:
        self.cookies: dict[str, str] = {"anonymous": "", "other tenant": ""}
        self.owner_id = ""
        kinds: dict[str, tuple[dict[str, Any], tuple[str, ...], dict[str, Any]]] = {
            # flags at login, rights, flags that are withdrawn
            "owner": ({}, (), {}),
            "other": ({}, (), {}),
            "staff without": ({"is_staff": True}, (), {}),
            "viewer": ({"is_staff": True}, ("view",), {}),
            "staff with": ({"is_staff": True}, ("view", "change"), {}),
            "changer": ({"is_staff": True}, ("change",), {}),
            "rights without staff": ({}, ("view", "change"), {}),
            "superuser": ({"is_superuser": True}, (), {}),
            "former staff": ({"is_staff": True}, ("view", "change"), {"is_staff": False}),
            "former superuser": ({"is_superuser": True}, (), {"is_superuser": False}),
            "deactivated": ({"is_superuser": True}, (), {"is_active": False}),
        }
        for name, (flags, its_rights, withdrawn) in kinds.items():
            user = User.objects.create_user(f"matrix {name}", **flags)
            user.user_permissions.add(*rights(*its_rights))
            client = DjangoClient()
            client.force_login(user)
            session = client.cookies["sessionid"].value
            cookie = f"{django_settings.SESSION_COOKIE_NAME}={session}"
            self.cookies[name] = f"{cookie}; tenant={TENANT}"
            if name == "owner":
                self.cookies["other tenant"] = f"{cookie}; tenant=other"
                self.owner_id = str(user.pk)
            User.objects.filter(pk=user.pk).update(**withdrawn)
        assert self.cookies.keys() == PRINCIPALS.keys()


@pytest.fixture(scope="module")
def principals(place: Place) -> Principals:
    return Principals()


@pytest.fixture(scope="module")
def servers(place: Place) -> Iterator[Callable[[str], Server]]:
    """The server for each target: `anonymous_access` is "deny" for one of them."""
    resolver = "tests.projects.acceptance.tenants.tenant_of_cookie"
    options: dict[str, Any] = {"drain_seconds": 1, "tenant_resolver": resolver}
    with (
        running_server(place.env, **options) as open_,
        running_server(place.env, anonymous_access="deny", **options) as closed,
    ):
        yield lambda target: closed if target == "deny" else open_


@dataclass
class Tasks:
    """Tasks of one kind, which no server changes by itself."""

    owner_id: str | None

    async def waiting(self) -> str:
        """A task that waits for an hour."""
        return str(await sync_to_async(self._create)())

    async def final(self) -> str:
        """A task that was cancelled, and can be retried."""

        def make() -> UUID:
            execution_id = self._create()
            _ledger().cancel(execution_id, None)
            return execution_id

        return str(await sync_to_async(make)())

    def _create(self) -> UUID:
        tenant = None if self.owner_id is None else TENANT
        new = NewExecution(
            id=new_id(), name="acceptance.where", queue="default", priority=0, arguments="{}",
            max_retries=0, owner_id=self.owner_id, tenant_id=tenant, delay=3600.0,
        )  # fmt: skip
        _ledger().create_here(new)
        return new.id


def _ledger() -> OrmLedger:
    return OrmLedger(options=LedgerOptions)


async def does(edge: Edge, operation: str, task_id: str) -> bool:
    """Whether the operation was done. What is refused must be refused as if there were no task."""
    if operation == "list":
        listed = await edge.ask("list", limit=500)
        if isinstance(listed, Refused):
            assert listed.code in REFUSED
            return False
        return task_id in {it["id"] for it in listed}
    answer = await edge.ask(operation, id=task_id)
    if isinstance(answer, Refused):
        assert answer.code in REFUSED, answer
        return False
    shown = answer[-1] if operation == "watch" else answer
    assert (shown["parent_id"] if operation == "retry" else shown["id"]) == task_id
    return True


@pytest.fixture(autouse=True)
def _no_rows(place: Place) -> Iterator[None]:
    yield
    TaskExecution.objects.all().delete()


CELLS = [
    pytest.param(target, kind, id=f"{target}-{kind.__name__.lower()}", marks=marks)
    for target in EVERY_TARGET
    for kind in CLIENT_EDGES
    # Under "deny" a stream differs as a request does.
    for marks in ([pytest.mark.long] if target == "deny" and kind in (Socket, Sse) else [],)
]


@pytest.mark.parametrize(("target", "kind"), CELLS)
async def test_every_cell_of_the_matrix(
    servers: Callable[[str], Server], principals: Principals, target: str, kind: type[Edge]
) -> None:
    """Each principal does what the page says, and what it may not do changes no row."""
    tasks = Tasks(principals.owner_id if target == "owned" else None)
    found, expected = {}, {}
    for who, cookie in principals.cookies.items():
        edge = kind(servers(target), cookie)
        for operation in OPERATIONS:
            final = operation in ("watch", "retry")
            task_id = await (tasks.final() if final else tasks.waiting())
            before = await rows(task_id)
            found[who, operation] = await does(edge, operation, task_id)
            expected[who, operation] = may(who, operation, target)
            if not found[who, operation]:
                assert await rows(task_id) == before, (who, operation)
    assert found == expected


async def rows(task_id: str) -> list[Any]:
    """The task and its retries, as far as a change would change them."""
    columns = ("id", "seq", "status", "cancel_requested", "updated_at")
    known = TaskExecution.objects.filter(Q(id=task_id) | Q(parent_id=task_id)).order_by("id")
    return [it async for it in known.values_list(*columns)]


def test_the_page_has_the_tables_of_the_matrix(place: Place) -> None:
    """`python -m tests.acceptance.permissions --write` brings it up to date."""
    text = PAGE.read_text()
    assert targets(text) == list(EVERY_TARGET)
    assert rendered(text) == text
