"""The writer's ports: the operations that it takes, and the session that executes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

# The result of an operation that another transaction's lock holds up: nothing was written of it.
AGAIN: Final = object()

# `give_up_at` of an operation that is not to be repeated.
ONCE: Final = float("-inf")


class Operation(Protocol):
    """One change, or one call on the session's connection."""

    @property
    def done(self) -> Callable[[Any], None]:
        """Called on the loop, with the result or the error."""
        ...

    @property
    def give_up_at(self) -> float | None:
        """When (by `time.monotonic`) it is reported as failed, if it surely was not written."""
        ...

    @property
    def key(self) -> str | None:
        """Its unique key, or None. Operations with a key and those without share no batch.

        A key that is taken aborts the transaction. While one operation waits for a key, the others
        with that key wait behind it.
        """
        ...


class Session(Protocol):
    """A connection that the writer's thread owns."""

    def execute(self, batch: Sequence[Any]) -> list[Any]:
        """Writes the batch in one transaction; a result for each operation, in their order.

        Never waits for a lock that another transaction may hold for long: `AGAIN` is the result
        of an operation that would.
        """
        ...

    def is_transient(self, error: Exception) -> bool:
        """Returns whether the same batch may succeed later."""
        ...

    @property
    def may_have_committed(self) -> bool:
        """Returns whether the `execute` that failed had sent its COMMIT."""
        ...

    def reset(self) -> None:
        """Drops the connection; the next `execute` opens one."""
        ...
