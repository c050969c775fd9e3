"""Loggers whose calls never raise and, in a vital thread, never wait."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from rail_async_tasks import safe_logging
from rail_async_tasks.safe_logging import SafeLogger, get_logger
from rail_async_tasks.vital import make_vital
from tests.support.waiting import TIMEOUT, wait_for

NAME = "rail_async_tasks.test_safe_logging"


class Records(logging.Handler):
    """Keeps what it handles, with the name of the thread that calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, logging.LogRecord]] = []
        self.more = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self.more:
            self.seen.append((threading.current_thread().name, record))
            self.more.notify_all()

    def wait_for(self, count: int) -> None:
        with self.more:
            assert self.more.wait_for(lambda: len(self.seen) >= count, TIMEOUT)


class Raising(logging.Handler):
    """A handler whose `emit` does not guard itself, unlike the standard library's."""

    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.error = error

    def emit(self, record: logging.LogRecord) -> None:
        raise self.error("the collector is away")


class Blocking(logging.Handler):
    """Blocks with its lock held, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go = threading.Event(), threading.Event()
        self.left = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.entered.set()
        self.go.wait(2 * TIMEOUT)  # who waits for it shows that by waiting for too long
        self.left.set()


def raising_filter(record: logging.LogRecord) -> bool:
    raise AttributeError("'_thread._local' object has no attribute 'request_id'")


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.fixture
def logger(monkeypatch: pytest.MonkeyPatch) -> Iterator[SafeLogger]:
    monkeypatch.setattr(safe_logging, "_reported", set())
    inner = logging.getLogger(NAME)
    inner.setLevel(logging.DEBUG)
    yield get_logger(NAME)
    safe_logging.flush(TIMEOUT)
    for handler in list(inner.handlers):
        inner.removeHandler(handler)
    for filter_ in list(inner.filters):
        inner.removeFilter(filter_)


def add(handler: Any) -> Any:
    logging.getLogger(NAME).addHandler(handler)
    return handler


def in_vital_thread(call: Any) -> None:
    def run() -> None:
        make_vital()
        call()

    thread = threading.Thread(target=run, name="a-vital-thread")
    thread.start()
    thread.join(TIMEOUT)
    assert not thread.is_alive(), "It waits for a handler."


# --- whatever raises ------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, SystemExit, asyncio.CancelledError, StopIteration])
@pytest.mark.parametrize("vital", [False, True])
def test_a_handler_that_raises(
    logger: SafeLogger, capsys: Any, error: type[BaseException], vital: bool
) -> None:
    """The call returns; stderr has the error and the remedy, once."""
    add(Raising(error))

    def log() -> None:
        logger.error("one")
        logger.warning("two")

    in_vital_thread(log) if vital else log()
    safe_logging.flush(TIMEOUT)
    said = capsys.readouterr().err
    assert said.count(f"logging to {NAME!r} failed") == 1
    assert "LOGGING" in said
    assert "the collector is away" in said


@pytest.mark.parametrize("vital", [False, True])
def test_a_filter_that_raises(logger: SafeLogger, capsys: Any, vital: bool) -> None:
    """On the logger or on a handler: both raise out of the call of the standard library."""
    logging.getLogger(NAME).addFilter(raising_filter)
    in_vital_thread(lambda: logger.warning("one")) if vital else logger.warning("one")
    logging.getLogger(NAME).removeFilter(raising_filter)
    handler = add(Records())
    handler.addFilter(raising_filter)
    in_vital_thread(lambda: logger.warning("two")) if vital else logger.warning("two")
    safe_logging.flush(TIMEOUT)
    assert "request_id" in capsys.readouterr().err
    assert handler.seen == []


def test_a_record_factory_and_an_argument_that_raise(logger: SafeLogger, capsys: Any) -> None:
    """Neither gets out of the call."""
    add(Records())
    before = logging.getLogRecordFactory()

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        raise KeyError("no trace id")

    logging.setLogRecordFactory(factory)
    try:
        logger.error("one")
        in_vital_thread(lambda: logger.error("two"))
    finally:
        logging.setLogRecordFactory(before)
    add(logging.StreamHandler(sys.stdout))
    logger.error("three %s", Unspeakable())
    assert "no trace id" in capsys.readouterr().err


def test_without_stderr_nothing_is_raised(
    logger: SafeLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under pythonw, or where a daemon has closed it."""
    add(Raising(ValueError))
    monkeypatch.setattr(sys, "stderr", None)
    logger.error("one")


def test_a_ctrl_c_passes_in_the_main_thread_only(logger: SafeLogger) -> None:
    """There a person sends it; in a thread it is a handler's own invention."""
    add(Raising(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        logger.error("one")
    in_vital_thread(lambda: logger.error("two"))
    done = threading.Event()
    thread = threading.Thread(target=lambda: (logger.error("three"), done.set()))
    thread.start()
    thread.join(TIMEOUT)
    assert done.is_set()


# --- what a record holds --------------------------------------------------------------------------


def _log(logger: SafeLogger) -> None:
    try:
        int("broken")
    except ValueError:
        logger.exception("it %s", "broke", extra={"task_id": "7"})


@pytest.mark.parametrize("vital", [False, True])
def test_a_record_names_its_caller(logger: SafeLogger, vital: bool) -> None:
    """File, function, thread, `extra` and traceback are those of the call, in any thread."""
    handler = add(Records())
    in_vital_thread(lambda: _log(logger)) if vital else _log(logger)
    handler.wait_for(1)
    [(thread, record)] = handler.seen
    assert (record.pathname, record.funcName) == (__file__, "_log")
    assert record.threadName == ("a-vital-thread" if vital else "MainThread")
    assert thread == ("rail-tasks-log" if vital else "MainThread")
    assert (record.getMessage(), vars(record)["task_id"]) == ("it broke", "7")
    assert record.exc_info is not None
    assert "broken" in str(record.exc_info[1])


def test_levels_are_heeded(logger: SafeLogger) -> None:
    """`isEnabledFor` and the level are the logger's own."""
    handler = add(Records())
    logging.getLogger(NAME).setLevel(logging.WARNING)
    logger.info("quiet")
    in_vital_thread(lambda: logger.info("quiet"))
    assert not logger.isEnabledFor(logging.INFO)
    logger.log(logging.WARNING, "loud", stacklevel=1)
    assert [record.getMessage() for _, record in handler.seen] == ["loud"]


# --- vital threads --------------------------------------------------------------------------------


def test_a_vital_thread_does_not_wait_for_a_handler(logger: SafeLogger) -> None:
    """Nor for the lock of one that blocks elsewhere; the records come later, in their order."""
    blocking, records = add(Blocking()), add(Records())
    elsewhere = threading.Thread(target=lambda: logger.error("elsewhere"))
    elsewhere.start()
    assert blocking.entered.wait(TIMEOUT)
    in_vital_thread(lambda: [logger.error("%d", n) for n in range(20)])
    blocking.go.set()
    elsewhere.join(TIMEOUT)
    records.wait_for(21)
    texts = [record.getMessage() for _, record in records.seen]
    assert [text for text in texts if text != "elsewhere"] == [str(n) for n in range(20)]


REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("REQUEST", default="none")


async def test_a_loop_does_not_wait_for_a_handler_that_is_at_work(logger: SafeLogger) -> None:
    """The handler may wait for the loop. The record follows in its caller's context, in order."""
    blocking, records = Blocking(), Records()
    seen: list[tuple[str, str]] = []
    records.addFilter(lambda record: bool(seen.append((record.msg, REQUEST.get())) or True))
    logger.logger.addHandler(blocking)
    logger.logger.addHandler(records)
    at_work = asyncio.create_task(asyncio.to_thread(logger.warning, "in a thread"))
    assert await asyncio.to_thread(blocking.entered.wait, TIMEOUT)
    REQUEST.set("7")
    logger.warning("on the loop")  # returns at once
    line = sys._getframe().f_lineno - 1
    REQUEST.set("8")
    logger.warning("on the loop again")
    assert seen == []
    blocking.go.set()
    await at_work
    await asyncio.to_thread(records.wait_for, 3)
    assert seen[1:] == [("on the loop", "7"), ("on the loop again", "8")]
    thread, record = records.seen[1]
    assert (thread, record.lineno) == ("rail-tasks-log", line)


async def test_a_loop_logs_where_it_is_made_otherwise(logger: SafeLogger) -> None:
    """With idle handlers the record is handled before the call returns, and names its caller."""
    records = Records()
    logger.logger.addHandler(records)
    logger.warning("at once")
    [(thread, record)] = records.seen
    assert (thread, record.lineno) == ("MainThread", sys._getframe().f_lineno - 2)


def test_what_waits_for_a_handler_is_bounded(
    logger: SafeLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest goes first, and the thread that handles them ends with the last."""
    monkeypatch.setattr(safe_logging, "MOST_WAITING", 5)
    monkeypatch.setattr(safe_logging, "_background", safe_logging._Background())
    blocking, records = add(Blocking()), add(Records())
    in_vital_thread(lambda: logger.error("first"))
    assert blocking.entered.wait(TIMEOUT)
    in_vital_thread(lambda: [logger.error("%d", n) for n in range(20)])
    blocking.go.set()
    records.wait_for(6)
    safe_logging.flush(TIMEOUT)
    assert [record.getMessage() for _, record in records.seen] == [
        "first", "15", "16", "17", "18", "19",
    ]  # fmt: skip
    wait_for(lambda: "rail-tasks-log" not in {it.name for it in threading.enumerate()})


def test_the_end_of_the_process_waits_for_no_handler(logger: SafeLogger) -> None:
    """`logging.shutdown()` takes the lock of each handler, also of one that never returns."""
    blocking = add(Blocking())
    in_vital_thread(lambda: logger.critical("the end"))
    assert blocking.entered.wait(TIMEOUT)
    safe_logging.shut_down(0.05)
    assert not blocking.left.is_set()
    blocking.go.set()


def test_a_forked_child_logs_in_a_thread_of_its_own(logger: SafeLogger) -> None:
    """The parent's may have been in the middle of a record."""
    program = f"""
import os, sys, threading
from rail_async_tasks import safe_logging, vital
import logging
logging.basicConfig(stream=sys.stdout)
vital.make_vital()
logger = safe_logging.get_logger({NAME!r})
safe_logging._background._thread = threading.current_thread()  # as if it were busy
if os.fork() == 0:
    logger.error("from the child")
    safe_logging.flush(5)
    os._exit(0)
os.wait()
"""
    answer = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "from the child" in answer.stdout
