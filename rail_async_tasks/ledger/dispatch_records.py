"""What goes into the ledger and out of it where a broker carries ids to workers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

import msgspec

from rail_async_tasks.conf.model import RateLimit
from rail_async_tasks.ledger.records import Claimed


class Dispatch(msgspec.Struct, frozen=True, gc=False):
    """A waiting execution that is sent to a worker, for the `number`-th time.

    `overdue`: it was sent before, and no worker has claimed it in time.
    """

    id: UUID
    name: str
    queue: str
    priority: int
    number: int
    overdue: bool = False


class DeliveryClaim(msgspec.Struct, frozen=True, kw_only=True):
    """A claim of executions that a broker has delivered, whose tasks are known here.

    Executions that were lost with `crashes` processes or more are suspects: with `suspects` one of
    them is claimed, else none.
    """

    ids: Collection[UUID]
    names: Collection[str]
    runtime_id: UUID
    crashes: int
    suspects: bool
    # Executions of these queues are not claimed.
    paused: Collection[str] = ()
    # The queues with a rate: a claim takes a token for each of their executions.
    rates: Mapping[str, RateLimit] = msgspec.field(default_factory=dict)


class DeliveryClaimResult(msgspec.Struct, frozen=True):
    """The claimed executions, and the suspects that must wait until no other one runs here.

    `locked`: another transaction holds these, and they still wait. The caller looks again: that
    transaction may cancel them, or claim them, or leave them as they are.
    `paused`: these wait in a paused queue.
    `early`: the rate of their queue has no token for these, but in so many seconds.
    """

    claimed: list[Claimed]
    postponed: set[UUID]
    locked: set[UUID] = set()
    paused: set[UUID] = set()
    early: dict[UUID, float] = msgspec.field(default_factory=dict)


class RatedSend(msgspec.Struct, frozen=True):
    """What was sent of a queue with a rate, and the seconds until more may be; None: none wait."""

    sent: list[Dispatch]
    wait: float | None
