"""Executions that no runtime runs: in a test they are stored, and run when the test asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from rail_async_tasks.hosting import process
from rail_async_tasks.hosting.no_runtime import forbidden
from rail_async_tasks.hosting.stored import Stored
from rail_async_tasks.hosting.submission import replace, replacement


class Held(Stored):
    """Stores executions in the caller's thread and transaction, and begins none.

    Attributes:
        causes: the exception that the last attempt of an execution has raised.
        finish: runs an execution while it is due. Set while a body runs, which may wait for it.
    """

    def __init__(self) -> None:
        self.causes: dict[UUID, BaseException] = {}
        self.finish: Callable[[UUID], None] | None = None


@contextmanager
def holding() -> Iterator[Held]:
    """Holds executions of every backend while the block runs, and starts no runtime."""
    before, held = replacement(), Held()
    with forbidden(), process.other_services():
        replace(held)
        try:
            yield held
        finally:
            replace(before)


def holder() -> Held | None:
    """Returns what holds executions; None where they run by themselves."""
    found = replacement()
    return found if isinstance(found, Held) else None


def cause_of(execution_id: UUID) -> BaseException | None:
    """Returns the exception of the last attempt, if it was held and run here."""
    held = holder()
    return None if held is None else held.causes.get(execution_id)
