"""Log lines about tasks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from rail_async_tasks import TaskDeclarationError, service, task
from rail_async_tasks.access import SYSTEM
from tests.support.runtimes import Configure, in_memory
from tests.support.waiting import TIMEOUT, eventually, final

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), in_memory]

Log = Callable[[], list[logging.LogRecord]]
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "sync"])


@BACKENDS
async def test_start_and_end(configure: Configure, tasks_log: Log, backend: str) -> None:
    """An INFO line each: id and name in the text, and the facts as attributes."""
    configure(backend=backend, log_task_start=True, log_task_complete=True)

    @task(name="l.add", queue="sums")
    async def add(a: int) -> int:
        return a + 1

    handle = await add.aenqueue(a=123456789)
    await final(handle)
    await eventually(lambda: len(tasks_log()) == 2)
    started, ended = tasks_log()
    for record in (started, ended):
        assert record.levelno == logging.INFO
        assert str(handle.id) in record.getMessage()
        assert "l.add" in record.getMessage()
        facts: Any = record
        assert (facts.task_id, facts.task_name) == (str(handle.id), "l.add")
        assert (facts.queue, facts.attempt) == ("sums", 1)
        assert "12345678" not in record.getMessage() + str(vars(record))
    assert vars(started)["status"] == "running"
    assert not hasattr(started, "seconds")
    assert vars(ended)["status"] == "completed"
    assert "completed" in ended.getMessage()
    assert 0 <= vars(ended)["seconds"] < TIMEOUT


@pytest.mark.parametrize(
    ("setting", "word"), [("log_task_start", "started"), ("log_task_complete", "completed")]
)
async def test_each_line_has_its_switch(
    configure: Configure, tasks_log: Log, setting: str, word: str
) -> None:
    """The other is not written."""
    configure(**{setting: True})

    @task(name="l.one")
    async def one() -> None: ...

    await final(await one.aenqueue())
    await eventually(tasks_log)
    assert [word in record.getMessage() for record in tasks_log()] == [True]


async def test_every_attempt_is_logged(configure: Configure, tasks_log: Log) -> None:
    """How it ended, and with which code; never what the exception said."""
    configure(log_task_complete=True)

    @task(name="l.fall", max_retries=1)
    async def fall() -> None:
        raise ValueError("the password is hunter2")

    await final(await fall.aenqueue())
    await eventually(lambda: len(tasks_log()) == 2)
    facts = [(vars(it)["status"], vars(it)["attempt"]) for it in tasks_log()]
    assert facts == [("retrying", 1), ("failed", 2)]
    assert {vars(it)["error_code"] for it in tasks_log()} == {"exception"}
    assert "hunter2" not in "".join(it.getMessage() + str(vars(it)) for it in tasks_log())


async def test_a_task_that_never_ran_is_logged_too(configure: Configure, tasks_log: Log) -> None:
    """Cancelled while it waited."""
    configure(log_task_complete=True)

    @task(name="l.later")
    async def later() -> None: ...

    handle = await later.using(delay=3600).aenqueue()
    await service.acancel(SYSTEM, handle.id)
    (record,) = tasks_log()
    assert "cancelled (cancelled), without an attempt here" in record.getMessage()
    assert vars(record)["status"] == "cancelled"


@BACKENDS
async def test_a_slow_task(configure: Configure, tasks_log: Log, backend: str) -> None:
    """One WARNING with "slow", the id, the name and the seconds; its length at the end, as INFO."""
    configure(backend=backend, slow_task_threshold_seconds=0.05)

    @task(name="l.slow")
    async def slow() -> None:
        await asyncio.sleep(0.15)

    handle = await slow.aenqueue()
    await final(handle)
    await eventually(lambda: len(tasks_log()) == 2)
    warning, end = tasks_log()
    assert (warning.levelno, end.levelno) == (logging.WARNING, logging.INFO)
    text = warning.getMessage()
    assert all(part in text for part in ("slow", str(handle.id), "l.slow", "0.05 s"))
    assert f"{vars(warning)['seconds']:.3f} s" in text
    assert vars(warning)["seconds"] >= 0.05
    assert vars(end)["seconds"] >= 0.15


async def test_without_settings_nothing_is_said(configure: Configure, tasks_log: Log) -> None:
    """The lines are for who asks for them."""

    @task(name="l.quiet")
    async def quiet() -> None: ...

    await final(await quiet.aenqueue())
    assert tasks_log() == []


@pytest.mark.parametrize("name", ["a\nTask b completed", "a b", "a\rb", "a\x1b[2K", "a\u2028b"])
async def test_no_name_can_forge_a_line(name: str) -> None:
    """Such a name is refused where it is declared."""
    with pytest.raises(TaskDeclarationError):

        @task(name=name)
        async def forger() -> None: ...
