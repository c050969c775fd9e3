"""Sensitive arguments: encrypted in the row, plain for the body alone."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection

from rail_async_tasks import Task, errors, queues, service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.hosting import process as host
from rail_async_tasks.service.read import on_ledger
from tests.support.runtimes import Configure, on_databases
from tests.support.waiting import TIMEOUT

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), pytest.mark.turns("store")]

SECRET = "correct horse battery"
# Longer than anything that ids and times have by chance.
PIN = 4711_0815_4711_0815
OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


def declared(**options: Any) -> Task:
    @task(name="sensitive.login", sensitive=["password", "extra"], **options)
    async def login(user: str, password: str, extra: dict[str, int] | None = None) -> list[Any]:
        return [user, len(password), len(extra or {})]

    return login


@on_databases
async def test_the_row_does_not_have_the_secret(
    store: str, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor do logs; the body gets it as it was."""
    configure(encryption_keys=[NEW])
    caplog.set_level(logging.DEBUG)
    login = declared()
    handle = await login.aenqueue(user="ada", password=SECRET, extra={"pin": PIN})
    assert await handle.aresult(TIMEOUT) == ["ada", len(SECRET), 1]

    def rows() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM rail_async_tasks_execution")
            return repr(cursor.fetchall())

    found = await sync_to_async(rows)()
    assert "ada" in found
    assert "$sealed" in found
    assert SECRET not in found
    assert str(PIN) not in found
    assert SECRET not in caplog.text


async def test_keys_are_changed_without_loss(store: str, configure: Configure) -> None:
    """Arguments that an old key sealed open while it is listed; a retry uses the newest."""
    configure(encryption_keys=[OLD])
    login = declared()
    before = await login.aenqueue(user="ada", password=SECRET)
    await before.aresult(TIMEOUT)
    ledger = host.ledger()
    arguments = await on_ledger(lambda it: it.arguments(before.id))
    assert arguments is not None

    configure(encryption_keys=[NEW, OLD])
    assert login.definition.decode(arguments) == {"user": "ada", "password": SECRET}
    assert ledger is host.ledger()
    again = await service.aretry(SYSTEM, before.id)
    resealed = await on_ledger(lambda it: it.arguments(again.id))
    assert resealed is not None

    configure(encryption_keys=[NEW])
    assert login.definition.decode(resealed) == {"user": "ada", "password": SECRET}
    with pytest.raises(errors.InvalidArguments, match=r"password can't be decrypted"):
        login.definition.decode(arguments)


async def test_a_task_whose_key_is_gone_fails_at_once(store: str, configure: Configure) -> None:
    """As `invalid_args`, with a message that says which argument and why, and no retry."""
    configure(encryption_keys=[OLD])
    login = declared()
    await queues.apause("default")
    handle = await login.aenqueue(user="ada", password=SECRET)
    configure(encryption_keys=[NEW])
    await queues.aresume("default")
    with pytest.raises(errors.TaskFailed, match="password can't be decrypted") as failed:
        await handle.aresult(TIMEOUT)
    assert failed.value.error_code == "invalid_args"
    assert handle.snapshot.attempts == 1


async def test_without_keys_nothing_is_stored(store: str, configure: Configure) -> None:
    """The start is refused, and the checks say what to do."""
    login = declared()
    with pytest.raises(errors.ConfigurationError, match="encryption_keys"):
        await login.aenqueue(user="ada", password=SECRET)
    assert await service.alist(SYSTEM) == []
    with pytest.raises(SystemCheckError, match=r"sensitive\.login"):
        call_command("check", "--tag", "rail_async_tasks")
    configure(encryption_keys=[NEW])
    call_command("check", "--tag", "rail_async_tasks")


async def test_unique_knows_equal_secrets(store: str, configure: Configure) -> None:
    """Equal arguments are one task; its key does not give them away."""
    configure(encryption_keys=[NEW])
    login = declared(unique=True)
    first = await login.using(delay=60).aenqueue(user="ada", password=SECRET)
    same = await login.using(delay=60).aenqueue(user="ada", password=SECRET)
    other = await login.using(delay=60).aenqueue(user="ada", password="other")
    assert first.id == same.id != other.id
