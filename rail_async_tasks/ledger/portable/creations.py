"""Creations: rows by `bulk_create`, in parts that a packet holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import UUID

from django.db import IntegrityError, transaction

from rail_async_tasks.ledger.edges import CREATE, CREATE_CLAIMED
from rail_async_tasks.ledger.portable.table import Table, json_value
from rail_async_tasks.ledger.records import Created, NewExecution
from rail_async_tasks.ledger.rows import in_utc, storable
from rail_async_tasks.ledger.updates import values_of
from rail_async_tasks.models import TaskExecution

# Bytes of arguments in one INSERT: a server refuses packets over its limit, 16 MiB or so.
MOST_BYTES = 1 << 20


def create(table: Table, rows: Sequence[NewExecution]) -> list[Created]:
    """Inserts rows; one that is there already is returned as it was created."""
    made: dict[UUID, Created] = {}
    missing = list({new.id: new for new in rows}.values())
    while missing:
        try:
            with transaction.atomic(using=table.alias):
                made.update(_insert(table, missing))
            break
        except IntegrityError:
            # Some are there already: an earlier COMMIT, whose answer was lost, did take effect.
            there = table.rows().filter(id__in=[new.id for new in missing])
            found = {row.id: _created(row) for row in there.only("id", "created_at", "run_after")}
            if not found:
                raise
            made.update(found)
            missing = [new for new in missing if new.id not in found]
    return [made[new.id] for new in rows]


def _insert(table: Table, rows: Sequence[NewExecution]) -> Iterator[tuple[UUID, Created]]:
    for part in _parts(rows):
        new = [_row_of(table, it) for it in part]
        table.rows().bulk_create(new)
        for row in new:
            yield row.id, _created(row)


def _row_of(table: Table, new: NewExecution) -> TaskExecution:
    edge = CREATE if new.token is None else CREATE_CLAIMED
    given = {name: getattr(new, name) for name in NewExecution.__struct_fields__}
    given["arguments"] = json_value(new.arguments)
    given["run_after"] = None if new.run_after is None else storable(new.run_after)
    return TaskExecution(**values_of(edge, table.moment, **given))


def _created(row: TaskExecution) -> Created:
    return Created(in_utc(row.created_at), in_utc(row.run_after))


def _parts(rows: Sequence[NewExecution]) -> Iterator[list[NewExecution]]:
    part: list[NewExecution] = []
    size = 0
    for new in rows:
        size += len(new.arguments)
        if part and size > MOST_BYTES:
            yield part
            part, size = [], len(new.arguments)
        part.append(new)
    yield part
