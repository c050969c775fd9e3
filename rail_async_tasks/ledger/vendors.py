"""Chooses how batches are written, by the vendor of the database."""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

from rail_async_tasks.ledger.batch import Batch
from rail_async_tasks.ledger.portable.batch import PortableBatch
from rail_async_tasks.ledger.sql.batch import SqlBatch
from rail_async_tasks.ledger.sql.dialects import DIALECTS


def is_portable(connection: BaseDatabaseWrapper) -> bool:
    """Returns whether the database has no statements of its own, and goes by Django's ORM."""
    return connection.vendor not in DIALECTS


def batch_on(connection: BaseDatabaseWrapper, *, audited: bool = False) -> Batch:
    """Returns what writes a batch to this connection's database."""
    batch = PortableBatch if is_portable(connection) else SqlBatch
    return batch(connection, audited=audited)
