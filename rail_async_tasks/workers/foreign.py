"""The worker process of a framework: its runtime starts soon, and its end hands back what runs.

For frameworks whose workers run tasks in forked processes, in threads or in their main loop. The
parent of forked processes has no runtime and must not get one: threads do not survive a fork.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any

from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import TablesMissing
from rail_async_tasks.forks import after_fork
from rail_async_tasks.hosting import process
from rail_async_tasks.hosting.exit import EXIT_TIMEOUT, end_at_once
from rail_async_tasks.hosting.tables import log_missing
from rail_async_tasks.roles import become_worker
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.workers.delivery import begin_drain, deliver

logger = get_logger("rail_async_tasks.backends")

# Seconds between two looks of an ending process whether it is idle.
STEP = 0.05
# The time that the framework gets to end an idle process in its own way, in seconds.
IDLE_SECONDS = 0.3


class _Life:
    """The work of this process, and its end. A forked child begins with none."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stopping = threading.Lock()
        self.running = 0  # tasks of the framework, of any kind
        self.delivering = 0  # of those, the deliveries to us
        self.forked = False
        self.armed = False
        self.ending = False
        self.over = False


_life = _Life()


def _reset() -> None:
    global _life
    _life = _Life()


after_fork(_reset)


def run(execution_id: Any) -> None:
    """`deliver`, in a process that may have to end meanwhile. Raises nothing."""
    life = _life
    with life.lock:
        over = life.over
        life.delivering += 1
    if life.forked and not life.armed:
        _arm()
    try:
        if over:  # the runtime has gone and must not come back; the id is sent again
            time.sleep(IDLE_SECONDS)
            return
        deliver(execution_id)
    except TablesMissing as error:
        log_missing(error)
    except Exception:  # the framework would keep a failed message, or send it again
        logger.exception("A delivery has failed; its task is sent again in a while")
    finally:
        with life.lock:
            life.delivering -= 1


def began(**_: Any) -> None:
    """Count a task of the framework that begins in this process, ours or the project's own."""
    with _life.lock:
        _life.running += 1


def ended(**_: Any) -> None:
    """Count the end of that task."""
    with _life.lock:
        _life.running -= 1


def start_soon() -> None:
    """Start this process's runtime, so that it sends and recovers also before its first task."""
    become_worker()
    threading.Thread(target=_start, name="rail-tasks-start", daemon=True).start()


def _start() -> None:
    try:
        process.runtime_in_thread()
    except TablesMissing as error:
        log_missing(error)
    except Exception:  # the first delivery tries again
        logger.exception("The runtime of this worker does not start")


def stop() -> None:
    """End the runtime for good; later deliveries are dropped. May be called twice."""
    life = _life
    with life.lock:
        life.over = True
    with life.stopping:
        process.stop()


# --- a worker that runs tasks itself -------------------------------------------------------------


def begin_to_end(*, hurry: bool = False) -> None:
    """Begin to drain: running bodies get `drain_seconds`, in a hurry none. Returns at once.

    From a signal handler too. The framework ends the process when its tasks have ended.
    """
    if hurry:
        process.hurry()
    begin_drain()
    life = _life
    if not life.ending:
        life.ending = True
        threading.Thread(target=_not_be_held_up, name="rail-tasks-end", daemon=True).start()


def _not_be_held_up() -> None:
    """End the process if a delivery does not return: the database does not take its outcome."""
    time.sleep(get_settings().drain_seconds + EXIT_TIMEOUT)
    if _life.delivering:
        _give_up()


def _give_up() -> None:
    end_at_once("Tasks of this worker did not end in time after its drain; it is ended now")


# --- a forked process ----------------------------------------------------------------------------


def begin_child() -> None:
    """Prepare a forked process: start its runtime, and its signal handlers with its first task."""
    _life.forked = True
    start_soon()


def _arm() -> None:
    """Have SIGTERM and SIGQUIT end this process in order; by default they would lose its task.

    Before the first task, and not at the fork: until then frameworks set handlers of their own.
    """
    if threading.current_thread() is threading.main_thread():
        _life.armed = True
        for number in (signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, _end_child)


def _end_child(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGQUIT:
        process.hurry()
    begin_drain()
    life = _life
    if not life.ending:
        life.ending = True
        threading.Thread(target=_leave, name="rail-tasks-end", daemon=True).start()


def _leave() -> None:
    """End this process once nothing runs in it. Its parent may do so first."""
    life = _life
    deadline = time.monotonic() + get_settings().drain_seconds + EXIT_TIMEOUT
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < IDLE_SECONDS:
        begin_drain()  # of a runtime that was being started at the signal
        if life.running or life.delivering:
            idle_since = time.monotonic()
        if life.delivering and time.monotonic() > deadline:
            _give_up()
        time.sleep(STEP)
    stop()
    os._exit(0)


def end_child(pid: int, *, hurry: bool = False) -> None:
    """Signal a forked process that runs a task of ours to end in `drain_seconds`, or at once."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGQUIT if hurry else signal.SIGTERM)
