"""One harness for every ledger: what the contract's tests do with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from asgiref.sync import sync_to_async

from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.port import Ledger
from rail_async_tasks.ledger.records import (
    Cancelled,
    Claimed,
    ClaimResult,
    Created,
    NewExecution,
    Outcome,
    Progress,
    QueueClaim,
    Settled,
)
from rail_async_tasks.ledger.upkeep import Callbacks, Recoveries
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import Status
from tests.support.waiting import TIMEOUT

T = TypeVar("T")

NAME = "echo"


def new_execution(**fields: Any) -> NewExecution:
    """A row to insert, with ordinary values where the test does not care."""
    defaults: dict[str, Any] = {
        "id": new_id(), "name": NAME, "queue": "default", "priority": 0,
        "arguments": '{"n": 1}', "max_retries": 3,
    }  # fmt: skip
    return NewExecution(**(defaults | fields))


def claimed_at_birth(**fields: Any) -> NewExecution:
    """A row that is inserted as running."""
    return new_execution(**({"runtime_id": new_id(), "token": new_id()} | fields))


class Lanes:
    """A claim plan with fixed lanes: `counts` of what each gave, `waits` that rates asked for."""

    def __init__(self, lanes: Sequence[QueueClaim], runtime_id: UUID | None = None) -> None:
        self.runtime_id = new_id() if runtime_id is None else runtime_id
        self.counts: list[int] = []
        self.waits: list[float] = []
        self._lanes = lanes

    def claims(self) -> Iterator[QueueClaim]:
        yield from self._lanes

    def took(self, claim: QueueClaim, count: int) -> None:
        self.counts.append(count)

    def rests(self, claim: QueueClaim, seconds: float) -> None:
        self.waits.append(seconds)


class Kit:
    """A started ledger and short ways to use it, from the loop of the test."""

    def __init__(self, kind: str, ledger: Ledger) -> None:
        self.kind = kind
        self.ledger = ledger

    @property
    def recoveries(self) -> Recoveries:
        found = self.ledger.recoveries()
        assert found is not None
        return found

    @property
    def callbacks(self) -> Callbacks:
        found = self.ledger.callbacks()
        assert found is not None
        return found

    async def here(self, call: Callable[..., T], *args: Any) -> T:
        """Calls what may do I/O, in a thread if it does."""
        return await sync_to_async(call)(*args) if self.ledger.blocking else call(*args)

    async def create(self, new: NewExecution) -> Created:
        created = await answer(lambda done: self.ledger.create(new, done))
        assert isinstance(created, Created)
        return created

    async def claim(
        self, queue: str = "default", *, limit: int = 100, names: Sequence[str] = (NAME,)
    ) -> ClaimResult:
        return await self.ledger.claim(Lanes([QueueClaim(queue, tuple(names), limit)]))

    async def settle(self, claimed: Claimed, status: Status, **fields: Any) -> Settled | None:
        return await self.send(outcome_of(claimed, status, **fields))

    async def send(self, outcome: Outcome) -> Settled | None:
        return await answer(lambda done: self.ledger.settle(outcome, done))  # type: ignore[no-any-return]

    async def progress(self, claimed: Claimed, percent: int, step: int, **fields: Any) -> None:
        values = {"progress_message": None, "token": claimed.token} | fields
        self.ledger.progress(
            Progress(id=claimed.snapshot.id, progress=percent, step=step, **values)
        )
        await self.ledger.reread([])  # behind it in line: it has been written

    async def get(self, execution_id: UUID) -> TaskSnapshot:
        snapshot = await self.here(self.ledger.get, execution_id)
        assert snapshot is not None
        return snapshot

    async def cancel(self, execution_id: UUID, ttl: float | None = None) -> Cancelled:
        cancelled = await self.here(self.ledger.cancel, execution_id, ttl)
        assert cancelled is not None
        return cancelled

    async def waiting(self, **fields: Any) -> UUID:
        """A pending row."""
        new = new_execution(**fields)
        await self.create(new)
        return new.id

    async def running(self, **fields: Any) -> Claimed:
        """A row that was claimed."""
        execution_id = await self.waiting(**fields)
        claimed = await self.here(self.ledger.claim_here, execution_id, new_id(), new_id())
        assert claimed is not None
        return claimed

    async def in_state(self, status: Status, **fields: Any) -> Claimed:
        """A row in this state, and its last attempt's claim; a made-up one where there was none."""
        if status is Status.PENDING:
            execution_id = await self.waiting(**fields)
            return Claimed(await self.get(execution_id), "{}", new_id())
        claimed = await self.running(**fields)
        if status is not Status.RUNNING:
            if status is Status.CANCELLED:
                await self.cancel(claimed.snapshot.id)
            settled = await self.settle(claimed, status)
            assert settled is not None
            assert settled.status is status
        return claimed


def outcome_of(claimed: Claimed, status: Status, **fields: Any) -> Outcome:
    """An outcome of the attempt, with ordinary values where the test does not care."""
    defaults = {"id": claimed.snapshot.id, "token": claimed.token, "progress": 7}
    return Outcome(status=status, **(defaults | fields))


async def answer(submit: Callable[[Callable[[Any], None]], None]) -> Any:
    """Returns what `done` is called with; raises it if it is an error."""
    waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    submit(waiter.set_result)
    result = await asyncio.wait_for(waiter, TIMEOUT)
    if isinstance(result, BaseException):
        raise result
    return result


def differing(before: TaskSnapshot, after: TaskSnapshot) -> set[str]:
    """The fields that two snapshots differ in."""
    old, new = msgspec.structs.asdict(before), msgspec.structs.asdict(after)
    return {name for name in old if old[name] != new[name]}
