"""One start of a task, checked: the row to store, or a message that names argument and rule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.declaration.definition import define
from rail_async_tasks.errors import InvalidArguments, UnknownQueue
from rail_async_tasks.ledger.records import NewExecution
from rail_async_tasks.service.request import EnqueueOptions, new_execution


async def _work() -> None:
    """Nothing."""


WORK = define(_work, name="request.work", priority=3)


def made(arguments: bytes = b"{}", **options: Any) -> NewExecution:
    return new_execution(WORK, arguments, EnqueueOptions(**options), TaskSettings())


def test_a_start_without_options_is_as_declared() -> None:
    new = made()
    assert (new.name, new.queue, new.priority) == ("request.work", "default", 3)
    assert (new.actor, new.delay, new.run_after, new.unique_key) == ("system", None, None, None)


@pytest.mark.parametrize(
    ("options", "actor"),
    [({"anonymous": True}, "anonymous"), ({"actor": "7", "anonymous": False}, "7")],
)
def test_the_actor_of_the_audit(options: dict[str, Any], actor: str) -> None:
    assert made(**options).actor == actor


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"owner_id": "x" * 256}, r"^owner must be a string of at most 255 characters"),
        ({"owner_id": "\ud800"}, r"^owner .* without NUL and unpaired surrogates, not '\\ud800'"),
        ({"tenant_id": "a\0"}, r"^tenant_id must be .* not 'a\\x00'"),
        ({"unique_key": 7}, r"^unique_key must be a string without NUL"),
        ({"priority": 2**31}, r"^priority must be a 32-bit integer, not 2147483648"),
        ({"priority": True}, r"^priority must be a 32-bit integer, not True"),
        ({"delay": -1}, r"^delay must be 0 seconds to 100 years, not -1"),
        ({"delay": 1, "run_after": datetime.now(UTC)}, r"^Give either delay or run_after"),
        ({"run_after": "soon"}, r"^run_after must be a datetime, not 'soon'"),
        ({"run_after": datetime(9999, 1, 1)}, r"^run_after must be at most 100 years away"),
    ],
)
def test_what_breaks_a_rule_is_named(options: dict[str, Any], message: str) -> None:
    """Argument, rule and value."""
    with pytest.raises(InvalidArguments, match=message):
        made(**options)


def test_an_unknown_queue_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownQueue, match=r"'hihg'.*default.*high"):
        made(queue="hihg")


def test_arguments_have_a_limit_in_bytes() -> None:
    with pytest.raises(InvalidArguments, match="max_args_bytes"):
        made(b"x" * (TaskSettings().max_args_bytes + 1))


def test_times() -> None:
    """A delay is kept in seconds; a time that has long passed means at once."""
    assert made(delay=timedelta(minutes=1)).delay == 60.0
    assert made(delay=0).delay is None
    assert made(run_after=datetime(2000, 1, 1, tzinfo=UTC)).run_after is None
    later = datetime.now(UTC) + timedelta(hours=1)
    assert made(run_after=later).run_after == later
