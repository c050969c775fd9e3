"""Whether the task runtime may start in this process: not in a test that runs its tasks itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rail_async_tasks.forks import after_fork

_forbidden = False


def is_forbidden() -> bool:
    """Returns whether no runtime may start here now."""
    return _forbidden


def refuse_start() -> None:
    """Raises `RuntimeError` where no runtime may start."""
    if _forbidden:
        raise RuntimeError(
            "No task runtime starts in this test: rail_tasks.run(), or self.tasks.run(), runs its"
            " tasks. A test that needs a runtime must use neither rail_tasks nor TaskTestMixin."
        )


@contextmanager
def forbidden() -> Iterator[None]:
    """Forbids the start of a runtime while the block runs."""
    before = _forbidden
    _set(True)
    try:
        yield
    finally:
        _set(before)


def _set(value: bool) -> None:
    global _forbidden
    _forbidden = value


# A server that a test forks runs its tasks by itself.
after_fork(lambda: _set(False))
