"""Operations: what a writer thread is handed to write, or to run on its connection.

`done` is called on the loop with the result or the error. See `writer.Operation` for the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec

from rail_async_tasks.ledger.port import ClaimPlan
from rail_async_tasks.ledger.records import NewExecution, Outcome, Progress, Recovery
from rail_async_tasks.ledger.writer_port import ONCE


class Create(msgspec.Struct, gc=False):
    """Inserts an execution."""

    new: NewExecution
    done: Callable[[Any], None]
    give_up_at: float | None = None

    @property
    def key(self) -> str | None:
        return self.new.unique_key


class Claim(msgspec.Struct, gc=False):
    """Claims by queue. The claimed rows get `token`, by which a retry finds them again."""

    plan: ClaimPlan
    token: UUID
    done: Callable[[Any], None]
    tried: bool = False
    give_up_at: None = None
    key: None = None


class Settle(msgspec.Struct, gc=False):
    """Ends an attempt."""

    outcome: Outcome
    done: Callable[[Any], None]
    give_up_at: None = None
    key: None = None


class Keep(msgspec.Struct, gc=False):
    """Stores progress."""

    progress: Progress
    done: Callable[[Any], None]
    give_up_at: None = None
    key: None = None


class Recover(msgspec.Struct, gc=False):
    """Frees executions of a dead holder."""

    recovery: Recovery
    limit: int
    done: Callable[[Any], None]
    give_up_at: None = None
    key: None = None


class Read(msgspec.Struct, gc=False):
    """Reads through Django's ORM, and fails at the first error: the caller will ask again.

    What takes too long must not hold up the writes behind it for ever.
    """

    call: Callable[[], Any]
    done: Callable[[Any], None]
    give_up_at: float = ONCE
    key: None = None


class Change(msgspec.Struct, gc=False):
    """Changes rows through Django's ORM; the call must be idempotent.

    It is repeated until the database works, or with `once` it fails at the first error, as a read.
    """

    call: Callable[[], Any]
    done: Callable[[Any], None]
    once: bool = False
    key: None = None

    @property
    def give_up_at(self) -> float | None:
        return ONCE if self.once else None
