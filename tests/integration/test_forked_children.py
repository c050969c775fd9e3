"""Children of a process that runs tasks, forked in the middle of its threads' work."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import warnings

import pytest

from rail_async_tasks import task
from tests.support.runtimes import Configure, on_databases
from tests.support.waiting import final

pytestmark = [on_databases, pytest.mark.usefixtures("ends_cleanly")]

FORKS = 20


def forked_collector() -> int:
    """Forks a child that collects its garbage, for at most five seconds, and returns its id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        child = os.fork()
    if child:
        return child
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(5)
    gc.collect()
    os._exit(0)


async def test_a_child_may_collect_its_garbage(configure: Configure) -> None:
    """The parent's connections are garbage in a child. Freeing them waited for a lock of SQLite
    that a thread of ours had held at the fork, and no thread is there to release it.
    """
    configure()

    @task(name="t.forked_children.returns")
    async def returns() -> None: ...

    statuses = []
    handles = []
    for _ in range(FORKS):
        starts = [asyncio.ensure_future(returns.aenqueue()) for _ in range(40)]
        await starts[0]  # the others' rows are being written
        child = forked_collector()
        handles += await asyncio.gather(*starts)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        statuses.append(os.waitstatus_to_exitcode(status))
    assert statuses == [0] * FORKS
    assert (await final(handles[-1])).status == "completed"
