"""Creations: each is stored in the call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from rail_async_tasks.ledger.memory.store import MemoryPart, Row
from rail_async_tasks.ledger.records import Created, CreatedMany, NewExecution
from rail_async_tasks.ledger.snapshots import add_created
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import Status


class MemoryCreations(MemoryPart):
    """See `port.Creations` and `port.CallerTransaction`."""

    def in_transaction(self) -> bool:
        return False

    def on_commit(self, callback: Callable[[], None]) -> None:
        callback()

    def create(self, new: NewExecution, done: Callable[[Created | BaseException], None]) -> None:
        done(self.create_here(new))

    def create_here(self, new: NewExecution) -> Created:
        store = self.store
        with store.lock:
            store.expire()
            existing = self._existing(new)
            if existing is not None:
                return existing
            at = store.now()
            run_after = new.run_after if new.delay is None else at + timedelta(seconds=new.delay)
            claimed = new.token is not None
            snapshot = TaskSnapshot(
                id=new.id,
                name=new.name,
                status=Status.RUNNING if claimed else Status.PENDING,
                queue=new.queue,
                priority=new.priority,
                created_at=at,
                updated_at=at,
                max_retries=new.max_retries,
                owner_id=new.owner_id,
                tenant_id=new.tenant_id,
                parent_id=new.parent_id,
                run_after=run_after,
                attempts=1 if claimed else 0,
                seq=2 if claimed else 1,
                started_at=at if claimed else None,
            )
            row = Row(
                snapshot, new.arguments, new.unique_key, new.runtime_id, new.token, new.language,
                new.traceparent, new.tracestate,
            )  # fmt: skip
            store.rows[new.id] = row
            if new.unique_key is not None:
                store.keys[new.unique_key] = new.id
            if not claimed:
                store.wait(row)
            return Created(at, run_after)

    def create_many_here(self, pages: Iterable[Sequence[NewExecution]]) -> CreatedMany:
        rows = [new for page in pages for new in page]  # all are right before one is stored
        made = CreatedMany([], [])
        for new in rows:
            add_created(made, new, self.create_here(new))
        return made

    def _existing(self, new: NewExecution) -> Created | None:
        row = self.store.rows.get(new.id)
        if row is not None:  # sent twice
            return Created(row.snapshot.created_at, row.snapshot.run_after)
        if new.unique_key is None or new.unique_key not in self.store.keys:
            return None
        other = self.store.rows[self.store.keys[new.unique_key]].snapshot
        return Created(other.created_at, existing=other)
