"""Each failed attempt is one line: a WARNING if it will be retried, an ERROR if it was the last."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from rail_async_tasks import Fail, task
from rail_async_tasks.ids import new_id
from rail_async_tasks.runtime.failure_log import FailureLog
from rail_async_tasks.safe_logging import flush
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import Status
from tests.support.runtimes import Configure, in_memory
from tests.support.waiting import TIMEOUT, eventually, final

pytestmark = [pytest.mark.usefixtures("ends_cleanly"), in_memory]
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "thread", "sync"])

Lines = Callable[[], list[logging.LogRecord]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """The lines about failures."""
    return lambda: [it for it in caplog.records if it.name == "rail_async_tasks.failures"]


def levels(records: list[logging.LogRecord]) -> list[str]:
    return [it.levelname for it in records]


@BACKENDS
@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_body_that_raises(
    configure: Configure, lines: Lines, backend: str, in_thread: bool
) -> None:
    """Which attempt, of how many, when the next; the traceback; no argument in the text."""
    configure(backend=backend, retry_delay=0.2, retry_jitter=0.0)

    if in_thread:

        @task(name="f.body", max_retries=1)
        def body(secret: str) -> None:
            raise KeyError(secret)
    else:

        @task(name="f.body", max_retries=1)
        async def body(secret: str) -> None:
            raise KeyError(secret)

    handle = await body.aenqueue(secret="hunter2")
    await final(handle)
    await eventually(lambda: len(lines()) == 2)
    warning, error = lines()
    assert levels([warning, error]) == ["WARNING", "ERROR"]
    when = "at once" if backend == "sync" else "in 0.2 s"
    name = f"Task f.body ({handle.id})"
    assert warning.getMessage() == (
        f"{name} will be retried {when}: exception KeyError, attempt 1 of 2"
    )
    assert error.getMessage() == f"{name} failed: exception KeyError, attempt 2 of 2"
    for record in (warning, error):
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], KeyError)
        frames = []
        trace = record.exc_info[2]
        while trace is not None:
            frames.append(trace.tb_frame.f_code.co_name)
            trace = trace.tb_next
        assert frames[-1] == "body"
        facts = {it: vars(record)[it] for it in ("task_id", "task_name", "queue", "error_type")}
        assert facts == {
            "task_id": str(handle.id), "task_name": "f.body", "queue": "default",
            "error_type": "KeyError",
        }  # fmt: skip
    assert [vars(it)["attempt"] for it in (warning, error)] == [1, 2]


@pytest.mark.parametrize("backend", ["asyncio", "sync"])
async def test_without_the_setting_nothing_is_logged(
    configure: Configure, lines: Lines, backend: str
) -> None:
    """Neither retries nor the end."""
    configure(backend=backend, log_failures=False)

    @task(name="f.silent", max_retries=1)
    async def silent() -> None:
        raise KeyError("no")

    await final(await silent.aenqueue())
    await asyncio.to_thread(flush, TIMEOUT)
    assert lines() == []


def unfit(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator whose wrapper does not take what the function takes."""

    @functools.wraps(function)
    def wrapper() -> Any:
        return function(1)

    return wrapper


@pytest.mark.parametrize("backend", ["asyncio", "sync"])
@pytest.mark.parametrize(
    ("kind", "said", "traced"),
    [
        ("fail", "exception Fail, attempt 1 of 4, which is not retried", True),
        ("name", "exception NameError, attempt 1 of 4, which is not retried", True),
        ("misfit", "exception TypeError, attempt 1 of 4, which is not retried", True),
        ("result", "result_not_serializable, attempt 1 of 4, which is not retried", False),
        ("large", "result_too_large, attempt 1 of 4, which is not retried", False),
        ("timeout", "timeout, attempt 1 of 1", True),
    ],
)
async def test_other_ways_to_fail(
    configure: Configure, lines: Lines, backend: str, kind: str, said: str, traced: bool
) -> None:
    """One ERROR each, at the first attempt, with the traceback where the body raised."""
    configure(backend=backend, max_result_bytes=1000, cancel_grace_seconds=5)

    @task(
        name="f.way",
        max_retries=0 if kind == "timeout" else 3,
        timeout=0.05 if kind == "timeout" else None,
    )
    async def way() -> Any:
        match kind:
            case "fail":
                raise Fail("for good")
            case "name":
                return undefined  # type: ignore[name-defined]  # noqa: F821
            case "result":
                return object()
            case "large":
                return "x" * 2000
        await asyncio.Event().wait()
        return None

    if kind == "misfit":

        @task(name="f.misfit", max_retries=3)
        @unfit
        def misfit(number: int) -> None: ...

        handle = await misfit.aenqueue(number=1)
    else:
        handle = await way.aenqueue()
    await final(handle)
    await eventually(lines)
    (record,) = lines()
    assert record.levelname == "ERROR"
    assert record.getMessage().endswith(f"failed: {said}")
    assert bool(record.exc_info) is traced


async def test_a_def_that_overruns_its_timeout(
    configure: Configure, lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    """One line, though its body is given up and raises later."""
    configure(cancel_grace_seconds=0.05)
    gate = threading.Event()

    @task(name="f.overrun", max_retries=0, timeout=0.05)
    def overrun() -> None:
        gate.wait(2 * TIMEOUT)
        raise ValueError("late")

    await final(await overrun.aenqueue())
    gate.set()
    await eventually(lambda: "given up, has ended" in caplog.text)
    assert levels(lines()) == ["ERROR"]


async def test_what_is_no_failure_is_not_logged(configure: Configure, lines: Lines) -> None:
    """Success, a cancel."""
    configure()
    began = asyncio.Event()

    @task(name="f.fine")
    async def fine() -> None: ...

    @task(name="f.long")
    async def long() -> None:
        began.set()
        await asyncio.Event().wait()

    await final(await fine.aenqueue())
    handle = await long.aenqueue()
    await asyncio.wait_for(began.wait(), TIMEOUT)
    await handle.acancel()
    await final(handle)
    await asyncio.to_thread(flush, TIMEOUT)
    assert lines() == []


# --- without an attempt here ----------------------------------------------------------------------


def snapshot(**fields: Any) -> TaskSnapshot:
    from rail_async_tasks.ledger.memory.store import utc_now

    values: dict[str, Any] = {
        "id": new_id(), "name": "f.other", "queue": "default", "created_at": utc_now(),
        "updated_at": utc_now(), "status": Status.FAILED, "attempts": 1, "max_retries": 3,
    }  # fmt: skip
    return TaskSnapshot(**(values | fields))


@pytest.mark.parametrize(
    ("fields", "level", "said"),
    [
        ({"error_code": "worker_lost", "attempts": 3, "retry_count": 3}, "ERROR",
         "failed: worker_lost, attempt 3 of 3"),
        ({"error_code": "unknown_task", "attempts": 0}, "ERROR",
         "failed: unknown_task, attempt 0: it has not begun"),
        ({"error_code": "invalid_args", "error": "Argument n: is required."}, "ERROR",
         "failed: invalid_args (Argument n: is required.), attempt 1 of 4, which is not retried"),
        ({"status": Status.RETRYING, "retry_count": 1, "error_code": "timeout"}, "WARNING",
         "will be retried at once: timeout, attempt 1 of 4"),
        ({"status": Status.RETRYING}, None, ""),
        ({"status": Status.COMPLETED}, None, ""),
        ({"status": Status.CANCELLED, "error_code": "cancelled"}, None, ""),
    ],
)  # fmt: skip
async def test_a_line_by_the_state(
    lines: Lines, fields: dict[str, Any], level: str | None, said: str
) -> None:
    """A hand-back is no failure: its row has no error."""
    it = snapshot(**fields)
    FailureLog().failed(it)
    await asyncio.to_thread(flush, TIMEOUT)  # a handler at work elsewhere has it wait
    assert levels(lines()) == ([] if level is None else [level])
    if level is not None:
        assert lines()[0].getMessage() == f"Task f.other ({it.id}) {said}"


async def test_an_attempt_that_is_lost_and_runs_again_is_a_warning(lines: Lines) -> None:
    """By the process that recovers it."""
    FailureLog().lost(snapshot(status=Status.RETRYING, attempts=1))
    await eventually(lines)
    (record,) = lines()
    assert record.levelname == "WARNING"
    assert record.getMessage().endswith("run again at once: worker_lost, attempt 1 of 5")


async def test_the_delay_is_that_of_the_row(lines: Lines) -> None:
    """In seconds from the change."""
    it = snapshot(status=Status.RETRYING, retry_count=1, error_code="timeout")
    later = it.updated_at + timedelta(seconds=90.04)
    FailureLog().failed(msgspec.structs.replace(it, run_after=later))
    await eventually(lines)
    assert "will be retried in 90.0 s" in lines()[0].getMessage()


async def test_a_handler_that_raises_hurts_no_task(configure: Configure, lines: Lines) -> None:
    """The task ends as it would."""
    configure()

    class Raises(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("no disk")

    @task(name="f.unlogged", max_retries=1)
    async def unlogged() -> None:
        raise KeyError("no")

    logger, handler = logging.getLogger("rail_async_tasks.failures"), Raises()
    logger.addHandler(handler)
    try:
        snapshot = await final(await unlogged.aenqueue())
    finally:
        logger.removeHandler(handler)
    assert (snapshot.status, snapshot.attempts) == ("failed", 2)
