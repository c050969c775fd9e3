"""Tokens of queues with a rate, taken in the transaction of the claims that use them.

A row for each queue has its bucket. Another process that takes tokens of the queue has the row
locked, for as long as a claim takes; it is skipped meanwhile, and looked at again soon. A process
that dies in the middle takes no token with it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from django.db import transaction
from django.db.models import QuerySet

from rail_async_tasks.conf.model import RateLimit
from rail_async_tasks.ledger.locks import unlocked
from rail_async_tasks.ledger.records import Claimed, QueueClaim
from rail_async_tasks.ledger.rows import clock, in_utc, now
from rail_async_tasks.models import QueueRate, TaskExecution
from rail_async_tasks.states import WAITING
from rail_async_tasks.token_bucket import MICROSECOND, TokenBucket

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Taken(msgspec.Struct):
    """Tokens of one queue that this transaction has taken. It must call `used` before it ends."""

    alias: str
    queue: str
    bucket: TokenBucket
    count: int

    def used(self, count: int) -> float | None:
        """Gives the others back; returns the seconds until the next token, None if there is one."""
        left = self.bucket.left(count, lambda: _due(self.alias, self.queue).exists())
        if count != self.count or left.waited != self.bucket.waited:
            row = _rows(self.alias).filter(name=self.queue)
            row.update(spent_until=left.spent_until, waited=left.waited)
        return None if left.tokens() else left.wait()


def micros(at: datetime) -> int:
    """Returns an aware time as microseconds since 1970."""
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * MICROSECOND + since.microseconds


def read(alias: str, queue: str, rate: RateLimit) -> TokenBucket:
    """Returns the bucket as it stands."""
    found = _bucket(_rows(alias).filter(name=queue), rate)
    return TokenBucket(rate, None, micros(clock(alias))) if found is None else found


def take(alias: str, queue: str, rate: RateLimit, most: int) -> Taken | None:
    """Takes at most so many tokens, in a transaction; None while another process is taking some."""
    found = _lock(alias, queue, rate)
    if found is None:
        return None
    count = min(found.tokens(), most)
    if count or found.leaps:
        spent = found.spend(count).spent_until
        rows = _rows(alias).filter(name=queue, spent_until=found.spent_until)
        # Where rows can't be locked, another process may have taken some since the read.
        if not rows.update(spent_until=spent):
            return None
    return Taken(alias, queue, found, count)


def _lock(alias: str, queue: str, rate: RateLimit) -> TokenBucket | None:
    """Returns the bucket, locked until the end of the transaction; None if another has it locked.

    A database that can't skip locked rows locks none.
    """
    found = _bucket(unlocked(_rows(alias).filter(name=queue)), rate)
    if found is None and not _rows(alias).filter(name=queue).exists():
        # In bulk, which sends no signals.
        _rows(alias).bulk_create([QueueRate(name=queue)], ignore_conflicts=True)
        found = _bucket(unlocked(_rows(alias).filter(name=queue)), rate)
    return found


def claim(
    alias: str, part: QueueClaim, rate: RateLimit, claim_rows: Callable[[QueueClaim], list[Claimed]]
) -> tuple[list[Claimed], float | None]:
    """Claims as many rows as there are tokens, with both changes in one transaction.

    Returns the rows, and the seconds until the next token where there is none left. Reads first: on
    SQLite a transaction takes the one write lock.
    """
    if not _due(alias, part.queue).exists():
        return [], None
    seen = read(alias, part.queue, rate)
    if not seen.tokens() and not seen.leaps:
        return [], seen.wait()
    with transaction.atomic(using=alias):
        taken = take(alias, part.queue, rate, part.limit)
        if taken is None:
            return [], 0.0
        if not taken.count:
            return [], taken.bucket.wait()
        rows = claim_rows(msgspec.structs.replace(part, limit=taken.count))
        return rows, taken.used(len(rows))


def _bucket(rows: QuerySet[QueueRate], rate: RateLimit) -> TokenBucket | None:
    alias = rows.db
    found = rows.annotate(at=now(alias)).values_list("spent_until", "at", "waited").first()
    if found is None:
        return None
    spent_until, at, waited = found
    return TokenBucket(rate, spent_until, micros(in_utc(at)), waited)


def _due(alias: str, queue: str) -> QuerySet[TaskExecution]:
    return TaskExecution.objects.using(alias).filter(
        queue=queue, status__in=sorted(WAITING), run_after__isnull=True
    )


def _rows(alias: str) -> QuerySet[QueueRate]:
    return QueueRate.objects.using(alias).order_by()
