"""The states of an execution and the edges between them, once, for every ledger.

    from                        event            guard                                  to
    -                           create           -                                      pending
    -                           create claimed   a slot is free here                    running
    pending, retrying           claim            due, name known, no cancel asked for   running
    running                     succeed          token mine                             completed
    running                     raise, time out  token mine, retries left, retryable    retrying
    running                     raise, time out  token mine, otherwise                  failed
    running                     hand back        token mine, task may run again         retrying
    running                     hand back        token mine, otherwise                  failed
    running                     any but succeed  token mine, cancel asked for           cancelled
    running                     recover          holder dead, may rerun, crashes left   retrying
    running                     recover          holder dead, otherwise                 failed
    pending, retrying           cancel           -                                      cancelled
    pending, retrying           fail unknown     no live process knows its name         failed
    running                     cancel           -                                      (flag only)
    completed, failed, cancelled                 no edge leaves a final state

With a cancel asked for, every edge out of `running` but success leads to `cancelled`. Each edge is
one statement whose WHERE is the guard and that adds 1 to `seq`; `ledger.edges` has its columns.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """An execution's state; the value is its public spelling."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RETRYING = "retrying"


FINAL: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
WAITING: Final = frozenset({Status.PENDING, Status.RETRYING})
UNFINISHED: Final = WAITING | {Status.RUNNING}


class ErrorCode(StrEnum):
    """The reason that an execution did not complete."""

    EXCEPTION = "exception"
    TIMEOUT = "timeout"
    WORKER_LOST = "worker_lost"
    UNKNOWN_TASK = "unknown_task"
    INVALID_ARGS = "invalid_args"
    RESULT_NOT_SERIALIZABLE = "result_not_serializable"
    RESULT_TOO_LARGE = "result_too_large"
    CANCELLED = "cancelled"


def settle(intended: Status, *, cancel_requested: bool) -> Status:
    """Returns the state that an attempt's outcome leads to.

    `intended` is what the attempt asks for: completed, failed, cancelled or retrying. The SQL
    ledgers write the same rule as a CASE; the contract suite holds both to it.
    """
    if cancel_requested and intended is not Status.COMPLETED:
        return Status.CANCELLED
    return intended
