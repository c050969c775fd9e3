"""The edges of the state machine: which columns each edge writes, and what it sets them to. Pure.

Every ledger builds its changes from these, or a test compares what it writes with them
(`tests/unit/test_edges.py`, `tests/contract/test_edges.py`). The guards, which differ per ledger,
are in `states` and in each statement's WHERE.

An edge's columns are in the order in which an UPDATE may set them: MySQL evaluates a value with the
columns to its left already changed, so `status` comes last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeAlias

from rail_async_tasks.states import ErrorCode, Status

# The error of an execution that recovery fails.
LOST: Final = "The process that ran it was lost."


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same value each time."""

    value: str | int | bool | None


@dataclass(frozen=True, slots=True)
class Now:
    """The ledger's clock, one time for the whole batch."""


@dataclass(frozen=True, slots=True)
class Given:
    """A field of the request (`NewExecution`, `Outcome`, `Progress` …) or of the claim."""

    name: str


@dataclass(frozen=True, slots=True)
class Plus:
    """The column's old value and so much more: a number, or a field of the request."""

    by: int | Given


@dataclass(frozen=True, slots=True)
class Later:
    """Now and so many seconds, a field of the request; `otherwise`, or NULL, where it is None.

    With `above_zero` a field of 0 counts as None: a retry without a delay is due, and has no time
    to wait for.
    """

    seconds: str
    above_zero: bool = False
    otherwise: Given | None = None


Value: TypeAlias = Fixed | Now | Given | Plus | Later

NULL: Final = Fixed(None)
ZERO: Final = Fixed(0)
NOW: Final = Now()
ONE_MORE: Final = Plus(1)


@dataclass(frozen=True, slots=True)
class Edge:
    """The columns that a change writes. All other columns stay as they are."""

    name: str
    columns: Mapping[str, Value] = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", MappingProxyType(dict(self.columns)))


def _given(*names: str) -> dict[str, Value]:
    return {name: Given(name) for name in names}


# The error of an attempt that has ended, cleared.
_NO_ERROR: Final[Mapping[str, Value]] = {
    "error": NULL, "error_code": NULL, "error_type": NULL, "error_place": NULL,
}  # fmt: skip

# --- into `pending` and `running` -----------------------------------------------------------------

# An INSERT. Columns that it does not name are NULL. The request has None as holder and token.
CREATE: Final = Edge(
    "create",
    _given(
        "id", "name", "queue", "priority", "arguments", "max_retries", "rerun_on_crash",
        "owner_id", "tenant_id", "parent_id", "unique_key", "language", "traceparent", "tracestate",
        "runtime_id", "token",
    )
    | {
        "run_after": Later("delay", otherwise=Given("run_after")),
        "created_at": NOW, "updated_at": NOW, "started_at": NULL,
        "attempts": ZERO, "seq": Fixed(1), "step": ZERO, "progress": ZERO, "retry_count": ZERO,
        "crashes": ZERO, "dispatches": ZERO, "cancel_requested": Fixed(False),
        "status": Fixed(Status.PENDING),
    },
)  # fmt: skip

# The same INSERT where the request has a token: its commit is the claim.
CREATE_CLAIMED: Final = Edge(
    "create claimed",
    {
        **CREATE.columns,
        "attempts": Fixed(1), "seq": Fixed(2), "started_at": NOW,
        "status": Fixed(Status.RUNNING),
    },
)  # fmt: skip

# By a queue, by ids that a broker has delivered, or inline.
CLAIM: Final = Edge(
    "claim",
    {
        "attempts": ONE_MORE, "seq": ONE_MORE, "step": ZERO, "progress": ZERO,
        "progress_message": NULL, **_NO_ERROR, "traceback": NULL,
        **_given("runtime_id", "token"),
        "started_at": NOW, "updated_at": NOW, "run_after": NULL, "dispatched_at": NULL,
        "status": Fixed(Status.RUNNING),
    },
)  # fmt: skip

# --- out of `running`, by the attempt -------------------------------------------------------------

# What every final edge writes.
_END: Final[Mapping[str, Value]] = {
    "seq": ONE_MORE, "step": ZERO, "run_after": NULL, "completed_at": NOW,
    "expires_at": Later("ttl"), "unique_key": NULL, "updated_at": NOW,
}  # fmt: skip

# The token stays until the next claim: by it a session finds out that a COMMIT, whose answer was
# lost, did take effect.
_SETTLE: Final[Mapping[str, Value]] = {
    **_END,
    **_given("progress", "progress_message", "result"),
    **_given("error", "error_code", "error_type", "error_place", "traceback"),
    "callback_at": NULL, "runtime_id": NULL,
}  # fmt: skip

COMPLETE: Final = Edge(
    "complete", {**_SETTLE, "progress": Fixed(100), "status": Fixed(Status.COMPLETED)}
)

FAIL: Final = Edge(
    "fail", {**_SETTLE, "callback_at": Later("callback_hold"), "status": Fixed(Status.FAILED)}
)

# Any outcome but success, where a cancel was asked for.
ACKNOWLEDGE_CANCEL: Final = Edge(
    "acknowledge cancel",
    {
        **_SETTLE,
        **_NO_ERROR, "error_code": Fixed(ErrorCode.CANCELLED),
        "status": Fixed(Status.CANCELLED),
    },
)  # fmt: skip

# Handing back is the same edge with `retried` 0. The unique key is kept.
RETRY: Final = Edge(
    "retry",
    {
        **{column: value for column, value in _SETTLE.items() if column != "unique_key"},
        "retry_count": Plus(Given("retried")),
        "run_after": Later("delay", above_zero=True),
        "completed_at": NULL, "expires_at": NULL,
        "status": Fixed(Status.RETRYING),
    },
)  # fmt: skip

# By the state that `states.settle` leads to: one statement for all four.
SETTLE: Final[Mapping[Status, Edge]] = MappingProxyType(
    {
        Status.COMPLETED: COMPLETE,
        Status.FAILED: FAIL,
        Status.CANCELLED: ACKNOWLEDGE_CANCEL,
        Status.RETRYING: RETRY,
    }
)

PROGRESS: Final = Edge(
    "progress", {**_given("progress", "step", "progress_message"), "updated_at": NOW}
)

# --- out of `running`, by another process: the holder is dead -------------------------------------

# The token goes too, or the lost attempt would take this for its own outcome.
_LOSE: Final[Mapping[str, Value]] = {
    **_END,
    "crashes": ONE_MORE, **_NO_ERROR, "traceback": NULL,
    "callback_at": NULL, "runtime_id": NULL, "token": NULL,
}  # fmt: skip

RERUN_LOST: Final = Edge(
    "rerun lost",
    {
        **{column: value for column, value in _LOSE.items() if column != "unique_key"},
        "completed_at": NULL, "expires_at": NULL,
        "status": Fixed(Status.RETRYING),
    },
)  # fmt: skip

FAIL_LOST: Final = Edge(
    "fail lost",
    {
        **_LOSE,
        "error": Fixed(LOST), "error_code": Fixed(ErrorCode.WORKER_LOST),
        "callback_at": Later("callback_hold"),
        "status": Fixed(Status.FAILED),
    },
)  # fmt: skip

CANCEL_LOST: Final = Edge(
    "cancel lost",
    {**_LOSE, "error_code": Fixed(ErrorCode.CANCELLED), "status": Fixed(Status.CANCELLED)},
)

# By the state that recovery leads to: one statement for all three.
RECOVER: Final[Mapping[Status, Edge]] = MappingProxyType(
    {
        Status.RETRYING: RERUN_LOST,
        Status.FAILED: FAIL_LOST,
        Status.CANCELLED: CANCEL_LOST,
    }
)

# --- cancel, and names that no process knows ------------------------------------------------------

CANCEL_WAITING: Final = Edge(
    "cancel waiting",
    {
        **_END,
        "cancel_requested": Fixed(True),
        **_NO_ERROR, "error_code": Fixed(ErrorCode.CANCELLED), "traceback": NULL,
        "dispatched_at": NULL,
        "status": Fixed(Status.CANCELLED),
    },
)  # fmt: skip

# `seq` stays: the state has not changed.
FLAG_CANCEL: Final = Edge("flag cancel", {"cancel_requested": Fixed(True), "updated_at": NOW})

FAIL_UNKNOWN: Final = Edge(
    "fail unknown",
    {
        **_END,
        "error": Given("error"), "error_code": Fixed(ErrorCode.UNKNOWN_TASK),
        "error_type": NULL, "error_place": NULL, "traceback": NULL,
        "dispatched_at": NULL, "callback_at": Later("callback_hold"),
        "status": Fixed(Status.FAILED),
    },
)  # fmt: skip

# --- within a state -------------------------------------------------------------------------------

# The time that a waiting row waited for has come.
STAGE: Final = Edge("stage", {"run_after": NULL})

DISPATCH: Final = Edge(
    "dispatch",
    {"dispatched_at": NOW, "dispatched_to": Given("backend"), "dispatches": ONE_MORE},
)

# The broker did not take it, or it arrived where it cannot run: it is to be sent again.
UNSEND: Final = Edge("unsend", {"dispatched_at": NULL})
RELEASE: Final = Edge("release", {"dispatched_at": NULL})

# A process reserves the failure callback for itself, and once it was called.
KEEP_CALLBACK: Final = Edge("keep callback", {"callback_at": Later("hold")})
CALLBACK_MADE: Final = Edge("callback made", {"callback_at": NULL})

EDGES: Final[tuple[Edge, ...]] = (
    CREATE, CREATE_CLAIMED, CLAIM, COMPLETE, FAIL, ACKNOWLEDGE_CANCEL, RETRY, PROGRESS,
    RERUN_LOST, FAIL_LOST, CANCEL_LOST, CANCEL_WAITING, FLAG_CANCEL, FAIL_UNKNOWN, STAGE,
    DISPATCH, UNSEND, RELEASE, KEEP_CALLBACK, CALLBACK_MADE,
)  # fmt: skip
