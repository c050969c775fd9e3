"""Callbacks that a forked child runs."""

from __future__ import annotations

import os

from rail_async_tasks.forks import after_fork

_ran_in: list[int] = []
after_fork(lambda: _ran_in.append(os.getpid()))


def test_a_callback_runs_in_the_child_before_fork_returns() -> None:
    """Locks and threads of the parent are replaced before the child's first line runs."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"ran" if _ran_in == [os.getpid()] else repr(_ran_in).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        assert answer.read() == "ran"


def test_a_callback_does_not_run_in_the_parent() -> None:
    """The parent keeps what it has."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert _ran_in == []
