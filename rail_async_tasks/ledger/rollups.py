"""The ledger's port for roll-ups: counts that processes add up, and their sums."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol
from uuid import UUID

import msgspec

# The lengths of spans in seconds, and for how many seconds their rows are kept: a chart of an hour
# by the minute, of a day by ten minutes, of a week by the hour, each with as much before it again.
KEPT: Final[Mapping[int, int]] = {60: 3 * 3600, 600: 2 * 86_400, 3600: 15 * 86_400}
# The span of an error's roll-up, and for how long it is kept.
ERROR_SPAN: Final = 3600
ERRORS_KEPT: Final = KEPT[ERROR_SPAN]


class TaskCounts(msgspec.Struct, frozen=True):
    """What became of a task's executions in one queue, in the minute that begins at `minute`.

    `minute` is in seconds since 1970; `counts` has one number per column of `COUNTS`.
    """

    minute: int
    name: str
    queue: str
    counts: list[int]


class ErrorCounts(msgspec.Struct):
    """How often one error has ended attempts of a task, in the hour that begins at `start`.

    Times are seconds since 1970. `place` is empty where none is known.
    """

    start: int
    name: str
    error: str
    place: str
    first_at: int
    last_at: int
    example_id: UUID
    failed: int = 0
    retried: int = 0


class RollupBatch(msgspec.Struct, frozen=True):
    """What one process adds at once."""

    tasks: list[TaskCounts]
    errors: list[ErrorCounts]

    def __bool__(self) -> bool:
        return bool(self.tasks or self.errors)


class CommitUnknown(Exception):
    """The answer to a COMMIT was lost: the batch may be stored or not."""


class Sums(msgspec.Struct, frozen=True):
    """Sums over the rows of one span. `by` is the queue or the name, None for all together."""

    start: int
    by: str | None
    counts: Sequence[int]


class ErrorSums(msgspec.Struct, frozen=True):
    """One error of one task, over all hours. Times are seconds since 1970."""

    error: str
    place: str
    name: str
    failed: int
    retried: int
    first_at: int
    last_at: int


class ErrorHour(msgspec.Struct, frozen=True):
    """How many attempts one error has ended in the hour that begins at `start`."""

    error: str
    place: str
    start: int
    count: int


class Rollups(Protocol):
    """Counts that processes add up."""

    async def add(self, batch: RollupBatch) -> bool:
        """Adds a batch; False, and nothing is added, where another transaction holds a row.

        On the runtime's loop.

        Raises:
            CommitUnknown: the batch may be stored or not.
            DatabaseError: nothing is added.
        """
        ...

    async def delete_old(self, limit: int) -> int:
        """Deletes at most so many rows past their time; returns how many. On the runtime's loop."""
        ...

    def now(self) -> float:
        """Returns the ledger's time in seconds since 1970. In the caller's thread, as all below."""
        ...

    def sums(
        self,
        span: int,
        since: int,
        *,
        by: str | None = None,
        queue: str | None = None,
        name: str | None = None,
    ) -> list[Sums]:
        """Returns the sums of each span that begins at `since` or later, oldest first.

        `by` is "queue", "name" or None; `queue` and `name` narrow what is summed.
        """
        ...

    def errors(self, since: int) -> list[ErrorSums]:
        """Returns each error of each task since then."""
        ...

    def error_hours(self, since: int, errors: Collection[tuple[str, str]]) -> list[ErrorHour]:
        """Returns the counts by hour of these errors, each a class and a place."""
        ...

    def examples(self, seen: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], UUID]:
        """Returns the execution that each of these errors failed last, by when it was last seen."""
        ...
