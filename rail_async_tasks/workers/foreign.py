"""A worker process that is not ours: its runtime's start, and an end that hands back what runs.

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

from rail_async_tasks.backends.broker import begin_drain, deliver
from rail_async_tasks.conf import get_settings
from rail_async_tasks.forks import after_fork
from rail_async_tasks.hosting import process as host
from rail_async_tasks.hosting.exit import EXIT_TIMEOUT, end_at_once
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.backends")

# How often an ending process looks whether it is idle, in seconds.
STEP = 0.05
# What the framework gets to end an idle process in its own way, in seconds.
COURTESY = 0.3


class _Life:
    """What this process knows of its own work. A forked child knows of none."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stopping = threading.Lock()
        self.running = 0  # tasks of the framework, of whatever kind
        self.delivering = 0  # those that are ours
        self.forked = False
        self.armed = False
        self.ending = False
        self.over = False


_life = _Life()


def _begin_anew() -> None:
    global _life
    _life = _Life()


after_fork(_begin_anew)


def run(execution_id: Any) -> None:
    """`deliver`, for a process that may be told to end meanwhile. Raises nothing."""
    life = _life
    with life.lock:
        over = life.over
        life.delivering += 1
    if life.forked and not life.armed:
        _arm()
    try:
        if over:  # the runtime has gone and must not come back; the id is sent again
            time.sleep(COURTESY)
            return
        deliver(execution_id)
    except Exception:  # the framework would keep or send again what has failed
        logger.exception("A delivery has failed; its task is sent again in a while")
    finally:
        with life.lock:
            life.delivering -= 1


def began(**_: Any) -> None:
    """A task of the framework begins in this process, ours or another's."""
    with _life.lock:
        _life.running += 1


def ended(**_: Any) -> None:
    """It has ended."""
    with _life.lock:
        _life.running -= 1


def start_soon() -> None:
    """Starts this process's runtime, so that it sends and recovers also before its first task."""
    threading.Thread(target=_start, name="rail-tasks-start", daemon=True).start()


def _start() -> None:
    try:
        host.runtime_in_thread()
    except Exception:  # the first delivery tries again, and tells its task so
        logger.exception("The runtime of this worker does not start")


def stop() -> None:
    """Ends the runtime for good: nothing may be left to this process. May be called twice."""
    life = _life
    with life.lock:
        life.over = True
    with life.stopping:
        host.stop()


# --- a worker that runs tasks itself -------------------------------------------------------------


def begin_to_end(*, hurry: bool = False) -> None:
    """The worker is told to stop: what runs gets `drain_seconds`, in a hurry none. Returns at once.

    From a signal handler too. The framework ends the process when its tasks have ended.
    """
    if hurry:
        host.hurry()
    begin_drain()
    life = _life
    if not life.ending:
        life.ending = True
        threading.Thread(target=_not_be_held_up, name="rail-tasks-end", daemon=True).start()


def _not_be_held_up() -> None:
    """Ends the process if a delivery does not return: the database does not take its outcome."""
    time.sleep(get_settings().drain_seconds + EXIT_TIMEOUT)
    if _life.delivering:
        _give_up()


def _give_up() -> None:
    end_at_once("Tasks of this worker did not end in time after its drain; it is ended now")


# --- a forked process ----------------------------------------------------------------------------


def begin_child() -> None:
    """A forked process begins: it has a runtime soon, and knows how to end."""
    _life.forked = True
    start_soon()


def _arm() -> None:
    """Has SIGTERM and SIGQUIT end this process in order; by themselves they would lose its task.

    Before the first task, and not at the fork: until then frameworks set handlers of their own.
    """
    if threading.current_thread() is threading.main_thread():
        _life.armed = True
        for number in (signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, _end_child)


def _end_child(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGQUIT:
        host.hurry()
    begin_drain()
    life = _life
    if not life.ending:
        life.ending = True
        threading.Thread(target=_leave, name="rail-tasks-end", daemon=True).start()


def _leave() -> None:
    """Ends this process once nothing runs in it. Its parent may do so first."""
    life = _life
    deadline = time.monotonic() + get_settings().drain_seconds + EXIT_TIMEOUT
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < COURTESY:
        begin_drain()  # of a runtime that was being started at the signal
        if life.running or life.delivering:
            idle_since = time.monotonic()
        if life.delivering and time.monotonic() > deadline:
            _give_up()
        time.sleep(STEP)
    stop()
    os._exit(0)


def tell_child(pid: int, *, hurry: bool = False) -> None:
    """Has a forked process end that runs a task of ours: it gets `drain_seconds`, or none."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGQUIT if hurry else signal.SIGTERM)
