"""A failure's traceback, in the log and in the row, begins in the project's code."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rail_async_tasks import AttemptInfo, Task, TaskHandle, task
from rail_async_tasks.hosting import process as host
from rail_async_tasks.runtime.attempts import body as attempt_body
from tests.support.runtimes import Configure, in_memory
from tests.support.waiting import eventually, final

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), in_memory]
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "thread", "sync"])
KINDS = pytest.mark.parametrize("in_thread", [False, True])

HERE = Path(__file__).name
Logged = Callable[[TaskHandle], Any]


@pytest.fixture
def failed(caplog: pytest.LogCaptureFixture) -> Logged:
    """Waits for the failure; returns the files of its traceback, as the log and the row have it."""

    async def files(handle: TaskHandle) -> list[str]:
        await final(handle)
        lines = await eventually(
            lambda: [it for it in caplog.records if it.name == "rail_async_tasks.failures"]
        )
        assert lines[-1].exc_info is not None
        logged = logging.Formatter().formatException(lines[-1].exc_info)
        stored = host.ledger().tracebacks([handle.id])[handle.id]
        assert stored.rstrip() == logged.rstrip()
        return [Path(it).name for it in re.findall(r'File "([^"]+)"', stored)]

    return files


def raising(*, in_thread: bool, **options: Any) -> Task:
    def fails() -> None:
        raise KeyError("no")

    if in_thread:

        @task(name="frames.body", max_retries=0, **options)
        def plain() -> None:
            fails()

        return plain

    @task(name="frames.body", max_retries=0, **options)
    async def coroutine() -> None:
        await asyncio.sleep(0)
        fails()

    return coroutine


@BACKENDS
@KINDS
async def test_it_begins_with_the_body(
    configure: Configure, failed: Logged, backend: str, in_thread: bool
) -> None:
    """Nothing of the runtime, of asyncio and of threads stands above it."""
    configure(backend=backend)
    assert await failed(await raising(in_thread=in_thread).aenqueue()) == [HERE, HERE]


@contextmanager
def around(info: AttemptInfo) -> Iterator[None]:
    yield


class RaisesAgain:
    """A manager that raises the body's error itself, as some do to log it."""

    def __init__(self, info: AttemptInfo) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            raise error


@BACKENDS
@KINDS
@pytest.mark.parametrize(("manager", "frames"), [("around", 2), ("RaisesAgain", 3)])
async def test_what_is_entered_around_it_stays(
    configure: Configure, failed: Logged, backend: str, in_thread: bool, manager: str, frames: int
) -> None:
    """Where it has a frame: it is the project's."""
    configure(backend=backend, around_task=f"{__name__}.{manager}")
    assert await failed(await raising(in_thread=in_thread).aenqueue()) == [HERE] * frames


@BACKENDS
async def test_frames_below_the_body_stay(
    configure: Configure, failed: Logged, backend: str
) -> None:
    """Ours too: they say what the body has called wrongly."""
    configure(backend=backend)

    @task(name="frames.wrong", max_retries=0)
    def wrong(info: Any) -> None:
        info.context.task.update_progress(101)

    files = await failed(await wrong.aenqueue())
    assert files[0] == HERE
    assert len(files) > 1
    assert HERE not in files[1:]


@BACKENDS
async def test_a_timeout_shows_where_the_body_was(
    configure: Configure, failed: Logged, backend: str
) -> None:
    """The cause begins with the body too."""
    configure(backend=backend, cancel_grace_seconds=5)

    @task(name="frames.slow", max_retries=0, timeout=0.05)
    async def slow() -> None:
        await asyncio.Event().wait()

    files = await failed(await slow.aenqueue())
    assert files[0] == HERE


@pytest.mark.parametrize("backend", ["asyncio", "thread"])
async def test_an_error_of_the_package_itself_keeps_its_frames(
    configure: Configure, failed: Logged, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are where it is: here the owner can't be loaded."""
    configure(backend=backend)

    def load_user(owner_id: object) -> None:
        raise ConnectionError("the database is away")

    @task(name="frames.owned", max_retries=0)
    async def owned(info: Any) -> None: ...

    monkeypatch.setattr(attempt_body, "load_user", load_user)
    files = await failed(await owned.using(owner="7").aenqueue())
    assert {"attempt.py", "body.py"} <= set(files)
