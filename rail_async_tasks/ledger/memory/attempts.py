"""Writes by an attempt, under its token, and cancels."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import msgspec

from rail_async_tasks.ledger.memory.store import MemoryPart, replace
from rail_async_tasks.ledger.records import Cancelled, Outcome, Progress, Settled
from rail_async_tasks.states import FINAL, ErrorCode, Status, settle


class MemoryAttempts(MemoryPart):
    """See `port.Attempts` and `port.InlineAttempts`."""

    def settle(
        self, outcome: Outcome, done: Callable[[Settled | BaseException | None], None]
    ) -> None:
        done(self.settle_here(outcome))

    def settle_here(self, outcome: Outcome) -> Settled | None:
        store = self.store
        with store.lock:
            row = store.held(outcome.id, outcome.token)
            if row is None:
                return None
            before, now = row.snapshot, store.now()
            status = settle(outcome.status, cancel_requested=before.cancel_requested)
            waits = status is Status.RETRYING
            cancelled = status is Status.CANCELLED
            delay = outcome.delay if waits and outcome.delay else None
            row.runtime_id, row.traceback = None, outcome.traceback
            row.snapshot = after = replace(
                before,
                status=status,
                seq=before.seq + 1,
                step=0,
                progress=100 if status is Status.COMPLETED else outcome.progress,
                progress_message=outcome.progress_message,
                result=None if outcome.result is None else msgspec.json.decode(outcome.result),
                error=None if cancelled else outcome.error,
                error_code=ErrorCode.CANCELLED.value if cancelled else outcome.error_code,
                error_type=None if cancelled else outcome.error_type,
                retry_count=before.retry_count + (outcome.retried if waits else 0),
                run_after=None if delay is None else now + timedelta(seconds=delay),
                completed_at=None if waits else now,
                expires_at=None if waits else store.expiry(outcome.ttl),
                updated_at=now,
            )
            if waits:
                store.wait(row)
            else:
                store.ended(row)
            return Settled(
                status, after.seq, now, after.run_after, after.expires_at, after.cancel_requested
            )

    def progress(self, progress: Progress) -> None:
        self.progress_here(progress)

    def progress_here(self, progress: Progress) -> None:
        with self.store.lock:
            row = self.store.held(progress.id, progress.token)
            if row is not None:
                row.snapshot = replace(
                    row.snapshot,
                    progress=progress.progress,
                    progress_message=progress.progress_message,
                    step=progress.step,
                    updated_at=self.store.now(),
                )


class MemoryCancels(MemoryPart):
    """See `port.Cancels`."""

    def cancel(
        self,
        execution_id: UUID,
        ttl: float | None,
        actor: str | None = None,
        *,
        wait: bool = True,
    ) -> Cancelled | None:
        store = self.store
        with store.lock:
            row = store.rows.get(execution_id)
            if row is None or store.is_expired(row):
                return None
            before, now = row.snapshot, store.now()
            if before.status in FINAL:
                return Cancelled(before, changed=False)
            if before.status == Status.RUNNING:
                row.snapshot = replace(before, cancel_requested=True, updated_at=now)
            else:
                row.traceback = None
                row.snapshot = replace(
                    before,
                    cancel_requested=True,
                    status=Status.CANCELLED,
                    seq=before.seq + 1,
                    step=0,
                    error=None,
                    error_code=ErrorCode.CANCELLED.value,
                    error_type=None,
                    run_after=None,
                    completed_at=now,
                    expires_at=store.expiry(ttl),
                    updated_at=now,
                )
                store.ended(row)
            return Cancelled(row.snapshot, changed=True)
