"""Options of a ledger that the project's settings decide, read for each operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from rail_async_tasks.conf.model import TaskSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerOptions:
    """Switches and limits of a ledger. Durations are seconds.

    Args:
        audit: each change of state also stores an audit row, in the same transaction.
        callbacks: failure callbacks are called, so that a row that waits for one is not deleted.
        create_timeout: how long a creation is retried while it surely has not been written. Its
            caller has had an error by then.
        max_key_attempts: inserts of one execution whose unique key is taken, and free again by the
            time of the look-up.
        max_changed: rows that `changed_lately` and `ended_lately` return, of all owners: 20 ms of a
            writer's time.
        max_deleted: ids in one DELETE; a query takes a limited number of parameters.
    """

    audit: bool = False
    callbacks: bool = False
    create_timeout: float = 30.0
    max_key_attempts: int = 10
    max_changed: int = 1000
    max_deleted: int = 5000

    @classmethod
    def of(cls, settings: TaskSettings) -> LedgerOptions:
        """The options that these settings ask for."""
        return cls(audit=settings.audit_enabled, callbacks=settings.on_failure == "callback")


# Returns the options of now: settings may change while a ledger is in use, as in a project's tests.
ReadOptions: TypeAlias = Callable[[], LedgerOptions]
